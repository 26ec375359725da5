"""The fixtures: where the server is, and a session on it."""

import os
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import stand
from kit import Session, session


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The NATS server on which the tested server listens: ``NATS_URL``, or one with Planter."""
    given = os.environ.get("NATS_URL")
    if given:
        stand.wait_until_answered(given, "plan.session.conformance.get_state")
        yield given
        return
    folder = tmp_path_factory.mktemp("planter")
    with stand.nats_server(folder) as address, stand.planter(folder, address):
        yield address


@pytest.fixture
async def pmp(url: str) -> AsyncGenerator[Session]:
    """A fresh session."""
    async with session(url) as found:
        yield found


@pytest.fixture(params=["camel", "snake", "mixed"])
def spelling(request: pytest.FixtureRequest) -> str:
    """The ways in which a manifest's keys are written."""
    return request.param


@pytest.fixture(scope="session")
def examples() -> list[bytes]:
    """The protocol's two manifests, byte by byte."""
    text = (Path(__file__).parent / "examples.md").read_bytes()
    return [part.partition(b"```")[0] for part in text.split(b"```json\n")[1:]]
