"""asyncio and NATS: fetch inputs, call the core, append, publish, acknowledge. No decisions."""
