"""``planter dev`` and ``planter run --local``: the whole of Planter as real processes."""

import asyncio
import os
import signal
import socket
import time
import urllib.request
from contextlib import asynccontextmanager

import psutil
import pytest

from planter.errors import ChildFailed
from planter.local import StackOptions, running_stack
from planter.settings import answers
from planter_protocol import PlanClient
from planter_testkit.commands import DEADLINE_SECONDS, Ended, ended, started

HELLO = """\
- kind: Phase
  id: fetch
  spec: {description: d, selector: {matchLabels: {}}, x-run: {shell: "echo hello from $(basename $PWD)"}}
- kind: Phase
  id: build
  spec: {description: d, selector: {matchLabels: {}}, waitFor: {phases: [fetch]}, x-run: {noop: {}}}
"""
FAILING = """\
- {kind: Phase, id: lint, spec: {selector: {matchLabels: {}}, x-run: {shell: "echo E501; exit 3"}}}
"""
LONG = """\
- kind: Phase
  id: long
  spec: {description: d, selector: {matchLabels: {}}, x-run: {shell: "echo began; exec sleep 600"}}
"""


async def launched(*arguments: str, folder, **environ: str) -> asyncio.subprocess.Process:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PLANTER_", "NATS_"))}
    return await started(*arguments, cwd=folder, env={**env, "HOME": str(folder), **environ})


async def planter(*arguments: str, folder, **environ: str) -> Ended:
    return await ended(await launched(*arguments, folder=folder, **environ))


async def line_with(stream: asyncio.StreamReader, text: str) -> str:
    async with asyncio.timeout(DEADLINE_SECONDS):
        async for line in stream:
            if text in line.decode():
                return line.decode()
    raise AssertionError(f"the output ended without {text!r}")


@asynccontextmanager
async def running_dev(folder, *arguments: str):
    process = await launched("dev", "--data", str(folder / "data"), *arguments, folder=folder)
    try:
        await line_with(process.stderr, "is ready")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def descendants(process: asyncio.subprocess.Process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def is_gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def all_gone(processes: list[psutil.Process]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not all(is_gone(process) for process in processes):
            await asyncio.sleep(0.01)


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def url_of(folder) -> str:
    return (folder / "data" / "dev.url").read_text().strip()


async def test_dev_says_where_http_answers_and_where_its_token_is(tmp_path):
    process = await launched("dev", "--data", str(tmp_path / "data"), "--port", free_port(), folder=tmp_path)
    try:
        url = (await line_with(process.stderr, "HTTP  ")).split()[1]
        token_file = (await line_with(process.stderr, "token ")).split()[1]
        answer = await asyncio.to_thread(urllib.request.urlopen, f"{url}/readyz", timeout=DEADLINE_SECONDS)
        token = (tmp_path / "data" / "http.token").read_text()
        status = await asyncio.to_thread(answer.read)
    finally:
        process.terminate()
        await process.wait()

    assert status == b'{"status":"ok"}'
    assert token_file == str(tmp_path / "data" / "http.token")
    assert len(token.strip()) >= 43


async def test_dev_says_that_http_is_off_when_the_port_that_was_named_is_taken(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound, and nobody answers there
        arguments = ("--data", str(tmp_path / "data"), "--port", free_port(), "--http", f":{port}")
        process = await launched("dev", *arguments, folder=tmp_path)
        try:
            line = await line_with(process.stderr, "HTTP  ")
        finally:
            process.terminate()
            await process.wait()

    assert "off" in line
    assert "http.off" in (tmp_path / "data" / "planner.log").read_text()


async def test_dev_is_found_by_run_and_ends_in_order(tmp_path):
    (tmp_path / "hello.yaml").write_text(HELLO)
    async with running_dev(tmp_path) as dev:
        processes = descendants(dev)
        url = url_of(tmp_path)
        ran = await planter("run", "hello.yaml", folder=tmp_path, PLANTER_DATA=str(tmp_path / "data"))
        dev.send_signal(signal.SIGINT)
        last = await ended(dev)

    assert ran.status == 0, ran.err
    assert ran.out == f"fetch | hello from {tmp_path.name}\n"
    assert len(processes) == 3
    assert last.status == 0
    assert all(is_gone(process) for process in processes)
    assert not answers(url)
    assert not (tmp_path / "data" / "dev.url").exists()


async def test_dev_on_a_folder_in_use_says_who_uses_it(tmp_path):
    async with running_dev(tmp_path):
        second = await planter("dev", "--data", str(tmp_path / "data"), folder=tmp_path)
        url = url_of(tmp_path)

        assert second.status == 5
        assert url in second.err
        assert str(tmp_path / "data") in second.err
        assert answers(url)


async def test_dev_takes_a_free_port_when_the_usual_one_is_not(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with running_dev(tmp_path / "one"), running_dev(tmp_path / "two"):
        assert url_of(tmp_path / "one") != url_of(tmp_path / "two")


async def test_a_killed_dev_leaves_no_process_behind(tmp_path):
    async with running_dev(tmp_path) as dev:
        processes = descendants(dev)
        dev.kill()

        await all_gone(processes)


async def test_dev_ends_with_a_message_when_one_of_its_processes_ends(tmp_path):
    async with running_dev(tmp_path) as dev:
        processes = descendants(dev)
        planner = next(process for process in processes if "serve" in process.cmdline())
        planner.kill()
        last = await ended(dev)

    assert last.status == 1
    assert "the planner was ended by SIGKILL" in last.err
    assert all(is_gone(process) for process in processes)


async def test_a_local_run_needs_nothing_but_its_file(tmp_path):
    (tmp_path / "hello.yaml").write_text(HELLO)

    ran = await planter("run", "hello.yaml", "--local", folder=tmp_path)

    assert ran.status == 0, ran.err
    assert ran.out == f"fetch | hello from {tmp_path.name}\n"
    assert "2 phases" in ran.err.splitlines()[-1]


@pytest.mark.parametrize(("sync", "written"), [("always", True), ("default", False)])
async def test_the_server_of_a_local_run_syncs_as_it_is_told(tmp_path, sync, written):
    (tmp_path / "hello.yaml").write_text(HELLO)

    ran = await planter(
        "run", "hello.yaml", "--local", "--keep-data", "kept", folder=tmp_path, PLANTER_SYNC=sync
    )

    assert ran.status == 0, ran.err
    assert ("sync_interval: always" in (tmp_path / "kept/nats-server.conf").read_text()) is written


async def test_doctor_finds_dev_and_says_what_its_server_promises(tmp_path):
    async with running_dev(tmp_path, "--sync", "always"):
        ran = await planter("doctor", folder=tmp_path, PLANTER_DATA=str(tmp_path / "data"))

    assert ran.status == 0, ran.out
    assert "always (R1)" in ran.out
    assert ran.err == "all is well\n", ran.out


async def test_a_local_run_that_fails_says_why(tmp_path):
    (tmp_path / "failing.yaml").write_text(FAILING)

    ran = await planter("run", "failing.yaml", "--local", "--keep-data", "kept", folder=tmp_path)

    assert ran.status == 1
    assert ran.out == "lint | E501\n"
    assert "lint: " in ran.err
    assert (tmp_path / "kept" / "planner.log").exists()


async def test_a_manifest_that_is_not_valid_starts_nothing(tmp_path):
    (tmp_path / "bad.yaml").write_text(
        HELLO.replace("waitFor: {phases: [fetch]}", "waitFor: {phases: [build]}")
    )

    ran = await planter("run", "bad.yaml", "--local", folder=tmp_path)

    assert ran.status == 3
    assert "bad.yaml:6:" in ran.err


async def test_ctrl_c_cancels_a_local_run_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "long.yaml").write_text(LONG)
    process = await launched("run", "long.yaml", "--local", folder=tmp_path)
    try:
        await line_with(process.stdout, "began")
        processes = descendants(process)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        last = await ended(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert last.status == 130
    assert "cancelled" in last.err
    assert len(processes) >= 4
    await all_gone(processes)
    assert time.monotonic() - begun < 10


async def test_a_local_run_that_takes_too_long_is_cancelled(tmp_path):
    (tmp_path / "long.yaml").write_text(LONG)

    late = await planter("run", "long.yaml", "--local", "--timeout", "300ms", folder=tmp_path)

    assert late.status == 124
    assert "cancelled" in late.err


async def test_a_runtime_that_cannot_start_is_shown_with_its_last_words(tmp_path):
    options = StackOptions(data_dir=tmp_path / "data", workdir=tmp_path, modules=("no_such_module_anywhere",))

    with pytest.raises(ChildFailed, match="no_such_module_anywhere") as failed:
        async with running_stack(options):
            pass

    assert failed.value.name == "runtime"


async def test_a_stack_knows_its_runtime_once_it_is_ready(tmp_path):
    options = StackOptions(data_dir=tmp_path / "data", workdir=tmp_path, slots=3)
    async with running_stack(options) as stack, PlanClient.connected(stack.url) as client:
        runtimes = (await client.planner_info()).runtimes

    assert [(runtime.runtime_id, runtime.slots) for runtime in runtimes] == [("local", 3)]
