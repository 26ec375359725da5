"""The embedded server: ready quickly, never twice on one folder, never left behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planter.errors import DataFolderInUse, ServerFailed, ServerMissing, ServerTooOld
from planter.local import nats_server
from planter.local.child import Child
from planter.local.nats_server import embedded_nats, find_server
from planter.settings import answers
from planter_protocol import PlanClient, assets

DEADLINE_SECONDS = 15.0
HOLDER = """
import asyncio, sys
from pathlib import Path
from planter.local.nats_server import embedded_nats
async def main():
    async with embedded_nats(Path(sys.argv[1])) as server:
        print(server.pid, server.url, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
GUARDED = """
import sys, time
from planter.local.child import Child
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
child = Child("sleeper", sleep, guarded=sys.argv[1] == "guard")
print(child.pid, flush=True)
time.sleep(600)
"""


def is_gone(pid: int) -> bool:
    """Ended, though perhaps nobody has collected it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(fact, what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not fact():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.01)


async def test_a_server_with_jetstream_is_there_and_ends_with_its_context(tmp_path):
    async with embedded_nats(tmp_path) as server:
        async with PlanClient.connected(server.url) as client:
            await assets.ensure(client.js)
        assert server.url.startswith("nats://127.0.0.1:")

    assert not answers(server.url)
    assert is_gone(server.pid)


async def test_what_was_stored_is_there_again_in_the_next_life(tmp_path):
    for sequence in (1, 2):
        async with (
            embedded_nats(tmp_path, sync_always=True) as server,
            PlanClient.connected(server.url) as client,
        ):
            await assets.ensure(client.js)
            stored = await client.js.publish("plan.session.s.control", b"{}")

        assert stored.seq == sequence


async def test_the_server_listens_where_it_is_told_to(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    async with embedded_nats(tmp_path, port) as server:
        assert server.url == f"nats://127.0.0.1:{port}"


async def test_a_second_server_on_the_same_folder_is_refused_with_pid_and_folder(tmp_path):
    async with embedded_nats(tmp_path) as server:
        with pytest.raises(DataFolderInUse) as refused:
            async with embedded_nats(tmp_path):
                pass

    assert (refused.value.pid, refused.value.url) == (server.pid, server.url)
    assert str(tmp_path) in str(refused.value)


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(tmp_path):
    in_use = pytest.raises(ServerFailed, match="address already in use")
    with socket.create_server(("127.0.0.1", 0)) as taken, in_use:
        async with embedded_nats(tmp_path, taken.getsockname()[1]):
            pass


async def test_a_server_that_is_too_old_is_refused_and_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(nats_server, "VERSION_MIN", (99, 0))

    with pytest.raises(ServerTooOld, match=r"99\.0"):
        async with embedded_nats(tmp_path):
            pass

    async with embedded_nats_with(monkeypatch, (2, 11), tmp_path) as server:
        assert server.version


def embedded_nats_with(monkeypatch, version, folder):
    monkeypatch.setattr(nats_server, "VERSION_MIN", version)
    return embedded_nats(folder)


def test_the_package_has_a_server_when_the_path_has_none(monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert os.access(find_server(), os.X_OK)


def test_without_any_server_both_remedies_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(nats_server, "_packaged_server", lambda: None)

    with pytest.raises(ServerMissing) as missing:
        find_server()

    assert "planter-daemon[embedded]" in (missing.value.remedy or "")
    assert "PATH" in (missing.value.remedy or "")


def test_the_server_ends_when_its_parent_is_killed(tmp_path):
    parent = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        pid, url = parent.stdout.readline().split()
        assert answers(url)

        parent.send_signal(signal.SIGKILL)

        wait_until(lambda: is_gone(int(pid)), "the server has ended")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
    assert not answers(url)

    async def again() -> str:
        async with embedded_nats(tmp_path) as server:
            return server.url

    assert asyncio.run(again())


@pytest.mark.parametrize("lifeline", ["kernel", "guard"])
def test_a_child_ends_with_its_parent_by_either_lifeline(lifeline):
    parent = subprocess.Popen([sys.executable, "-c", GUARDED, lifeline], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(parent.stdout.readline())
        assert not is_gone(pid)

        parent.send_signal(signal.SIGKILL)

        wait_until(lambda: is_gone(pid), "the child has ended")
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


@pytest.mark.parametrize("guarded", [False, True])
async def test_a_child_that_ignores_sigterm_is_killed(tmp_path, guarded):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); "
        "time.sleep(600)"
    )
    log = tmp_path / "log"
    child = Child("stubborn", [sys.executable, "-c", stubborn], log=log, guarded=guarded)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while child.tail() != ("deaf",):
                await asyncio.sleep(0.01)
        await child.stop(grace=0.05)
    finally:
        child.kill()

    assert child.exit_status() == -signal.SIGKILL
    assert child.ended_by() == "was ended by SIGKILL"
