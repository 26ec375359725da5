"""HTTP: the Phase Manifest Protocol's endpoints, ``/api``, health and metrics, over NATS alone.

The interface keeps nothing of its own: it is a client of NATS like any other, so any replica of it can
answer. ``hosting.run_http`` is light; what is heavy (FastAPI, uvicorn) is imported by it once there is time.
"""
