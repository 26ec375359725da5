"""The HTTP interface as a guest of the planner's process: it comes after the planner, and may fail alone."""

import importlib
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
import structlog

from planter.api.options import HttpOptions
from planter.api.tokens import load_token
from planter.errors import PlanterError
from planter.settings import HTTP_TOKEN_FILE, HttpAddress, Settings

log = structlog.get_logger(__name__)

_BACKLOG = 128


def guest_of(
    settings: Settings, told_file: Path | None = None
) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """What runs beside the planner, None when HTTP is off."""
    if settings.http is None:
        return None
    options = HttpOptions(
        address=settings.http,
        nats_url=settings.nats_url,
        token_file=settings.http_token_file or settings.data / HTTP_TOKEN_FILE,
        token_for_all=settings.http_token_for_all,
        hosts=settings.http_hosts,
        told_file=told_file,
    )
    return partial(run_http, options)


async def run_http(options: HttpOptions) -> None:
    """Serve until cancelled. What goes wrong is logged; the planner goes on without.

    The port is open at once; who connects before everything is imported waits a moment.
    """
    try:
        listener = _listen(options.address)
    except OSError as error:
        _tell(options, "off")
        log.warning(
            "http.off",
            address=str(options.address),
            reason=error.strerror or str(error),
            remedy="another program has the port? name another with --http HOST:PORT, or --http off",
        )
        return
    with listener:
        try:
            token = load_token(options.token_file)
            _tell(options, str(msgspec.structs.replace(options.address, port=listener.getsockname()[1])))
            # FastAPI takes most of a second to import: the planner works meanwhile.
            serving = await anyio.to_thread.run_sync(importlib.import_module, "planter.api.serving")
            if not options.address.is_loopback:
                log.warning(
                    "http.exposed",
                    address=str(options.address),
                    remedy="it has no TLS: keep it behind a proxy",
                )
            await serving.serve(options, token, listener)
        except PlanterError as error:
            _tell(options, "off")
            log.warning("http.off", address=str(options.address), reason=str(error), remedy=error.remedy)
        except Exception:
            log.exception("http.broken", address=str(options.address))


def _listen(address: HttpAddress) -> socket.socket:
    try:
        return listen(address.host, address.port)
    except OSError:
        if not address.or_free:
            raise
        return listen(address.host, 0)


def _tell(options: HttpOptions, address: str) -> None:
    """Whole or not at all: somebody is waiting for it."""
    if options.told_file is not None:
        draft = options.told_file.with_suffix(".new")
        draft.write_text(f"{address}\n", encoding="ascii")
        draft.replace(options.told_file)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
