"""The kit of tests/conformance is itself tried: it finds each planted fault, and nothing where none is."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from planter_testkit.nats import running_nats_server

KIT = Path(__file__).parents[1] / "conformance"
MODULES = ("test_manifests", "test_order", "test_outcomes", "test_modes", "test_control", "test_observing")
PATIENT, SHORT = 20.0, 1.0
"""Seconds after which what has to happen counts as missing: for a program without a fault, and with one."""

SERVER_FAULTS = {
    "ignores-needs": "not_targeted_before_what_it_waits_for",
    "goes-on-after-raise": "after_raise_nothing",
    "stops-after-continue": "after_continue_what_waits",
    "ignores-pause": "a_paused_session_targets_nothing",
    "ignores-cancel": "a_cancelled_session_starts_nothing",
    "loses-retry": "a_failed_attempt_is_made_again",
    "retries-for-ever": "without_retry_there_is_one_attempt",
    "lower-case-only": "two_manifests_of_the_document",
    "pascal-case-only": "two_manifests_of_the_document",
    "wrong-time": "state_messages_have",
    "wrong-words": "every_final_status_in_the_words",
    "ack-completes": "an_ack_alone_completes_nothing",
    "rejection-fails": "a_rejected_target",
    "queued-runs": "a_queued_target",
    "accepts-duplicates": "an_id_that_is_used_twice",
    "accepts-circles": "wait_in_a_circle",
    "accepts-anything": "neither_known_nor_prefixed",
    "obeys-dry-run": "a_dry_run_starts_nothing",
    "replaces-running": "another_manifest_while_one_is_executed_changes",
    "compares-with-itself": "diff_tells_what",
    "starts-on-use": "on_use_is_not_started",
    "waits-for-ever": "waits_too_long_fails",
    "waits-first": "limit_of_waiting_is_not_waited_out",
    "needs-acks": "runtime_directed_a_runtime_advances",
    "forgets-log": "what_a_failure_has_to_say",
    "forgets-events": "a_start_is_a_lifecycle_event",
    "forgets-state": "the_server_says_that_a_phase_runs",
    "wrong-target": "a_target_names_its_phase",
    "mixes-sessions": "sessions_do_not_touch",
    "breaks-on-junk": "bytes_that_are_no_manifest",
    "forgets-phases": "get_state_names_every_phase",
}
"""Fault of naive_server.py by the part of a test's name that has to find it."""

RUNTIME_FAULTS = {
    "completes-everything": "says_that_a_phase_failed",
    "never-ends": "completes_what_it_was_offered",
    "wrong-time": "times_of_a_runtime",
    "wrong-phase": "acks_name_the_phase",
    "breaks-on-junk": "targets_that_cannot_be_read",
}


def kit(*arguments: str, **environment: str) -> tuple[int, str]:
    """A run of the kit: exit status of pytest, and what it printed."""
    named = {"NATS_URL", "RUNTIME_URL", "RUNTIME_ID", "HTTP_URL", "HTTP_TOKEN"}
    variables = {key: value for key, value in os.environ.items() if key not in named}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=KIT,
        env={**variables, **environment},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def kit_modules(monkeypatch) -> dict[str, ModuleType]:
    """The kit's modules."""
    monkeypatch.syspath_prepend(str(KIT))
    names = (*MODULES, "test_runtime", "naive_server", "naive_runtime", "kit")
    return {name: importlib.import_module(name) for name in names}


def waiting(modules: dict[str, ModuleType], seconds: float) -> None:
    """Set the kit's deadline."""
    for name in ("kit", "test_runtime"):
        vars(modules[name])["SECONDS"] = seconds


def the_test(modules: list[ModuleType], part: str) -> Any:
    """The one test whose name has this part."""
    (found,) = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name[:5] == "test_" and part in name
    ]
    return found


def cases(test: Any) -> list[dict[str, Any]]:
    """The arguments for which a test of the kit is run, without its sessions."""
    examples = [
        part.partition(b"```")[0] for part in (KIT / "examples.md").read_bytes().split(b"```json\n")[1:]
    ]
    wanted = set(inspect.signature(test).parameters)
    if "number" in wanted:
        return [{"examples": examples, "number": number} for number in (0, 1)]
    if "data" in wanted:
        return [{"data": b"{"}]
    return [{"spelling": how} for how in ("camel", "snake")] if "spelling" in wanted else [{}]


async def finds(test: Any, url: str, session: Any) -> list[BaseException]:
    """What the test has to say about the server, for each case."""
    found: list[BaseException] = []
    for case in cases(test):
        place = {"url": url} if "url" in inspect.signature(test).parameters else {}
        try:
            async with session(url) as pmp:
                await test(pmp=pmp, **place, **case)
        except (AssertionError, KeyError, TypeError, TimeoutError) as error:
            found.append(error)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "variable", "files"),
    [
        ("naive_server.py", "NATS_URL", [f"{name}.py" for name in MODULES]),
        ("naive_runtime.py", "RUNTIME_URL", ["test_runtime.py"]),
    ],
)
async def test_a_program_without_a_fault_passes_and_one_with_a_fault_does_not(
    tmp_path, kit_modules, script, variable, files
) -> None:
    naive = kit_modules[script.removesuffix(".py")]
    fault = {"naive_server.py": "wrong-target", "naive_runtime.py": "wrong-time"}[script]
    async with running_nats_server(tmp_path) as server:
        import asyncio

        async with naive.serving(server.url):
            good = await asyncio.to_thread(kit, *files, CONFORMANCE_SECONDS="20", **{variable: server.url})
        async with naive.serving(server.url, fault):
            bad = await asyncio.to_thread(
                kit, "-x", *files, CONFORMANCE_SECONDS="3", **{variable: server.url}
            )

    assert good[0] == 0, good[1]
    assert bad[0] == 1, bad[1]


@pytest.mark.parametrize("fault", SERVER_FAULTS)
async def test_each_fault_of_a_server_is_found_by_the_test_that_is_meant_to(
    tmp_path, kit_modules, fault
) -> None:
    test = the_test([kit_modules[name] for name in MODULES], SERVER_FAULTS[fault])
    session, naive = kit_modules["kit"].session, kit_modules["naive_server"]
    async with running_nats_server(tmp_path) as server:
        waiting(kit_modules, PATIENT)
        async with naive.serving(server.url):
            without = await finds(test, server.url, session)
        waiting(kit_modules, SHORT)
        async with naive.serving(server.url, fault):
            with_fault = await finds(test, server.url, session)

    assert without == []
    assert with_fault != []


@pytest.mark.parametrize("fault", RUNTIME_FAULTS)
async def test_each_fault_of_a_runtime_is_found_by_the_test_that_is_meant_to(
    tmp_path, kit_modules, fault
) -> None:
    module, naive = kit_modules["test_runtime"], kit_modules["naive_runtime"]
    test = the_test([module], RUNTIME_FAULTS[fault])
    async with running_nats_server(tmp_path) as server:
        async with naive.serving(server.url), module.planning(server.url, None) as planner:
            waiting(kit_modules, PATIENT)
            await test(planner)
        waiting(kit_modules, SHORT)
        async with naive.serving(server.url, fault), module.planning(server.url, None) as planner:
            with pytest.raises((AssertionError, TypeError, TimeoutError)):
                await test(planner)


def test_every_fault_of_the_naive_programs_is_tried() -> None:
    code = "import naive_server, naive_runtime; print(*naive_server.FAULTS, '|', *naive_runtime.FAULTS)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=KIT, check=True)
    server, runtime = (part.split() for part in run.stdout.split("|"))

    assert (sorted(server), sorted(runtime)) == (sorted(SERVER_FAULTS), sorted(RUNTIME_FAULTS))


def test_the_kit_imports_nothing_of_planter() -> None:
    texts = {path.name: path.read_text() for path in KIT.glob("*.py")}

    assert texts
    found = [
        name for name, text in texts.items() if re.search(r"^\s*(from|import) planter", text, re.MULTILINE)
    ]
    assert found == []
