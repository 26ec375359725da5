"""Publishing, for those who do it thousands of times a second: what ``Client.publish`` does, in one go.

It puts the command where nats-py collects what its flusher will write, and leaves every case but the plain
one to nats-py: no connection, a full buffer, odd text, a payload that is too large.
"""

# ruff: noqa: SLF001  (nats-py's buffer; tests/integration/test_sending.py holds it to what is used here)

from collections.abc import Mapping
from typing import Any

from nats.aio.client import Client


async def publish(  # noqa: PLR0913  (what nats-py takes, and how soon)
    nc: Client,
    subject: str,
    data: bytes,
    *,
    reply: str = "",
    headers: Mapping[str, str] | None = None,
    now: bool = False,
) -> None:
    """Publish a message; everything published on this connection keeps its order.

    Args:
        nc: a connection.
        subject: where to.
        data: the payload.
        reply: where an answer goes.
        headers: copied.
        now: have it written in this turn of the loop, with all that waits, not by nats-py's flusher in the
            next. For whoever has a single message under way, and waits for what it brings about: to write
            each of many on its own would cost more than it saves.

    Raises:
        what ``Client.publish`` raises.
    """
    command = _command(subject, reply, data, headers)
    if not command or not _has_room(nc, len(command), len(data)):
        await nc.publish(subject, data, reply=reply, headers=dict(headers) if headers else None)
        return
    client: Any = nc
    client._pending.append(command)
    client._pending_data_size += len(command)
    client.stats["out_msgs"] += 1
    client.stats["out_bytes"] += len(data)
    if now and _is_quiet(client):
        commands, client._pending = client._pending, []
        client._pending_data_size = 0
        client._transport.writelines(commands)
    elif client._flush_queue.empty():
        await client._flush_pending()


def _has_room(client: Any, command: int, payload: int) -> bool:
    """Whether nats-py's buffer takes the command as it is, and is where we know it to be."""
    try:
        return (
            client._status == Client.CONNECTED
            and client._flush_queue is not None
            and payload <= client._max_payload
            and client._pending_data_size + command <= client._max_pending_size
        )
    except AttributeError:
        return False


def _is_quiet(client: Any) -> bool:
    """Whether the socket has written all that it was given, and can be written to."""
    try:
        socket = client._transport._io_writer.transport
    except AttributeError:
        return False  # a WebSocket
    return not socket.is_closing() and socket.get_write_buffer_size() == 0


def _command(subject: str, reply: str, data: bytes, headers: Mapping[str, str] | None) -> bytes:
    """As the NATS client protocol has it (``PUB``, ``HPUB``); nothing when a subject or a header is odd."""
    names = f"{subject} {reply}"
    if not subject or not names.isprintable() or names.count(" ") != 1:
        return b""
    if not headers:
        return b"PUB %b %d\r\n%b\r\n" % (names.encode(), len(data), data)
    lines = "".join([f"{key}: {value}\r\n" for key, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        return b""
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    head = f"HPUB {names} {len(block)} {len(block) + len(data)}\r\n".encode()
    return b"%b%b%b\r\n" % (head, block, data)
