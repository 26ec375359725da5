"""A container engine with Docker's API (Docker, Podman), as much of it as running a phase needs.

Over httpx2 and not aiodocker: where aiohttp is installed, nats-py imports it, which costs every process of
Planter ten MiB and a part of its start (ADR 3). Source: Docker Engine API 1.41.
"""

import os
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import anyio.to_thread
import msgspec

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
NOT_FOUND, CONFLICT, SERVER_ERROR = 404, 409, 500
_HEADER = struct.Struct(">BxxxL")
"""Of a frame: the stream (1 stdout, 2 stderr) and how many bytes follow."""
_Query = Mapping[str, str] | None
_Body = Mapping[str, Any] | None


class EngineError(Exception):
    """The engine refuses; ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message.strip()
        super().__init__(f"{status}: {self.message}")


class EngineUnreachable(Exception):
    """No engine answers at the address."""


class Output(NamedTuple):
    """What a container wrote."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Engine:
    """A connection to an engine.

    Args:
        url: as ``DOCKER_HOST`` has it: ``unix:///path`` or ``tcp://host:port``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: httpx2.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Connect with the first request."""
        httpx2 = await anyio.to_thread.run_sync(_library)
        scheme, _, place = self.url.partition("://")
        if scheme not in ("unix", "tcp", "http") or os.environ.get("DOCKER_TLS_VERIFY"):
            raise EngineUnreachable(f"{self.url}: only unix:// and tcp:// without TLS are known here")
        transport = httpx2.AsyncHTTPTransport(uds=place) if scheme == "unix" else None
        self._client = httpx2.AsyncClient(
            transport=transport,
            base_url="http://engine" if scheme == "unix" else f"http://{place}",
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()

    async def is_podman(self) -> bool:
        """Whether it is Podman."""
        components = (await self._json("GET", "/version")).get("Components") or ()
        return any("Podman" in component.get("Name", "") for component in components)

    async def pull(self, image: str) -> None:
        """Fetch an image; one without a tag or digest is ``latest``."""
        name = image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"
        async with self._stream("POST", "/images/create", {"fromImage": name}) as response:
            async for line in response.aiter_lines():
                said: dict[str, Any] = msgspec.json.decode(line) if line.strip() else {}
                if "error" in said:
                    raise EngineError(NOT_FOUND, str(said["error"]))

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Make a container, see the API; returns its id."""
        return str((await self._json("POST", "/containers/create", {"name": name}, config))["Id"])

    @asynccontextmanager
    async def attached(self, container: str) -> AsyncGenerator[AsyncGenerator[Output]]:
        """What it writes, from its first byte to its end; to be opened before it is started."""
        wanted = {"stream": "1", "stdout": "1", "stderr": "1"}
        async with self._stream("POST", f"/containers/{container}/attach", wanted) as response:
            yield _frames(response)

    async def start(self, container: str) -> None:
        """Start it."""
        await self._call("POST", f"/containers/{container}/start")

    async def wait(self, container: str) -> None:
        """Return when it has ended."""
        await self._call("POST", f"/containers/{container}/wait")

    async def state(self, container: str) -> dict[str, Any]:
        """``State`` of the API's description: ``ExitCode``, ``OOMKilled``, ..."""
        return (await self._json("GET", f"/containers/{container}/json"))["State"]

    async def stop(self, container: str, seconds: int) -> None:
        """SIGTERM, and SIGKILL so many seconds later."""
        await self._call("POST", f"/containers/{container}/stop", {"t": str(seconds)})

    async def remove(self, container: str) -> None:
        """Kill it and remove it, with its volumes."""
        await self._call("DELETE", f"/containers/{container}", {"force": "1", "v": "1"})

    async def labelled(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """Ids and labels of all containers with the label, running or not."""
        filters = msgspec.json.encode({"label": [label]}).decode()
        found = await self._json("GET", "/containers/json", {"all": "1", "filters": filters})
        return [(one["Id"], one.get("Labels") or {}) for one in found]

    # -- inside ----------------------------------------------------------------------------------

    async def _json(self, method: str, path: str, query: _Query = None, body: _Body = None) -> Any:
        return msgspec.json.decode(await self._call(method, path, query, body))

    async def _call(self, method: str, path: str, query: _Query = None, body: _Body = None) -> bytes:
        async with self._stream(method, path, query, body) as response:
            return await response.aread()

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, query: _Query = None, body: _Body = None
    ) -> "AsyncGenerator[httpx2.Response]":
        import httpx2  # noqa: PLC0415

        assert self._client is not None
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._client.stream(
                method, path, params=dict(query or {}), content=content, headers=headers
            ) as response:
                if response.status_code >= 400:
                    raise EngineError(response.status_code, _message(await response.aread()))
                yield response
        except httpx2.HTTPError as error:
            raise EngineUnreachable(f"{self.url}: {error or type(error).__name__}") from error


async def _frames(response: "httpx2.Response") -> AsyncGenerator[Output]:
    """The two streams of output, in one (``POST /containers/{id}/attach``, 'Stream format')."""
    buffer = bytearray()
    async for chunk in response.aiter_raw():
        buffer += chunk
        while len(buffer) >= _HEADER.size:
            stream, size = _HEADER.unpack_from(buffer)
            if len(buffer) < _HEADER.size + size:
                break
            data = bytes(buffer[_HEADER.size : _HEADER.size + size])
            del buffer[: _HEADER.size + size]
            yield Output("stderr" if stream == 2 else "stdout", data)


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return body[:500].decode(errors="replace")


def _library() -> Any:
    """To import it takes a while, and others have to go on."""
    import httpx2  # noqa: PLC0415

    return httpx2
