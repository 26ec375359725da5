"""The other side: the kit plays the planner for a runtime under test.

``RUNTIME_URL`` names a NATS server on which the runtime listens and no planner does. It is offered phases on
the session's subject, or, with ``RUNTIME_ID``, as Planter addresses them: ``plan.runtime.<id>.target``. It
has to complete phases with the label ``phase: conformance-completes``, and to fail ``conformance-fails``;
``run`` says the same to runtimes that know Planter's ``x-run``. Without any of it Planter's own is tried.
"""

import asyncio
import itertools
import json
import os
import secrets
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import nats
import pytest
import stand
from kit import RFC3339, SECONDS, Object
from nats.aio.client import Client
from nats.aio.msg import Msg

RUNS = {"completes": {"shell": "exit 0"}, "fails": {"shell": "exit 3"}}
FINAL = ("complete", "failed", "cancelled")


class Planner:
    """Offers phases, and collects what the runtime says of them."""

    def __init__(self, nc: Client, runtime: str | None) -> None:
        self.nc = nc
        self.runtime = runtime
        self.session = f"pmp-{secrets.token_hex(6)}"
        self.acks: list[Object] = []
        self.reports: list[Object] = []
        self._fences = itertools.count(1)
        self._news = asyncio.Event()

    async def offer(self, name: str, kind: str, **more: object) -> Object:
        """A target; what only Planter knows of it is there as well."""
        target: Object = {
            "phaseId": name,
            "reason": "dependencies satisfied",
            "sessionId": self.session,
            "attempt": 1,
            "fence": next(self._fences),
            "dispatchId": secrets.token_hex(16),
            "labels": {"phase": f"conformance-{kind}"},
            "run": RUNS[kind],
            **more,
        }
        if self.runtime is None:
            await self.nc.publish(f"plan.session.{self.session}.target", json.dumps(target).encode())
        else:
            target["runtimeId"] = self.runtime
            data = json.dumps({"targets": [target]}).encode()
            await self.nc.publish(f"plan.runtime.{self.runtime}.target", data)
        return target

    async def ended(self, name: str) -> Object:
        """The last word on a phase."""
        async with asyncio.timeout(SECONDS):
            while True:
                for report in self.reports:
                    if report["phaseId"] == name and report.get("status", "running") in FINAL:
                        return report
                self._news.clear()
                await self._news.wait()

    async def on_message(self, message: Msg) -> None:
        """An ack, a state, or a report; the last two say the same."""
        body = json.loads(message.data)
        match message.subject.rpartition(".")[2]:
            case "ack":
                self.acks += body.get("acks") or [body]
            case "report":
                self.reports += body.get("reports") or [body]
            case "state":
                self.reports.append(body)
        self._news.set()


@pytest.fixture(scope="module")
def runtime_place(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[str, str | None]]:
    """The address of the server and the id of the runtime, if it is to be addressed."""
    given = os.environ.get("RUNTIME_URL")
    if given:
        yield given, os.environ.get("RUNTIME_ID")
        return
    if os.environ.get("NATS_URL"):
        pytest.skip("RUNTIME_URL names no runtime: only the server at NATS_URL is tested")
    folder = tmp_path_factory.mktemp("runtime")
    with stand.nats_server(folder) as address:
        command = (sys.executable, "-m", "planter_runtime", "--nats", address, "--id", "conformance")
        with stand.program(folder, "runtime", *command) as log:
            stand.wait_until_answered(address, "$SRV.PING.planter-runtime.conformance", log)
            yield address, "conformance"


@asynccontextmanager
async def planning(address: str, runtime: str | None) -> AsyncGenerator[Planner]:
    """The kit as planner, on a session of its own."""
    nc = await nats.connect(address, no_echo=True)
    found = Planner(nc, runtime)
    if runtime is not None:  # acks and reports may be published confirmed: then something has to keep them
        subjects = [f"plan.session.*.{verb}" for verb in ("ack", "report", "state", "log")]
        await nc.jetstream().add_stream(name="CONFORMANCE", subjects=subjects)
    await nc.subscribe(f"plan.session.{found.session}.*", cb=found.on_message)
    await nc.flush()
    try:
        yield found
    finally:
        await nc.close()


@pytest.fixture
async def planner(runtime_place: tuple[str, str | None]) -> AsyncGenerator[Planner]:
    """A planner for one test."""
    async with planning(*runtime_place) as found:
        yield found


@pytest.mark.clause("D3", "D6", "D7", "N2.3")
async def test_a_runtime_completes_what_it_was_offered(planner: Planner) -> None:
    await planner.offer("a", "completes")

    report = await planner.ended("a")

    assert report["status"] == "complete"


@pytest.mark.clause("D6", "S6", "N2.3")
async def test_a_runtime_says_that_a_phase_failed(planner: Planner) -> None:
    await planner.offer("a", "fails")

    report = await planner.ended("a")

    assert report["status"] == "failed"


@pytest.mark.clause("D6", "D8", "N1.9")
async def test_acks_name_the_phase_and_come_before_the_last_word(planner: Planner) -> None:
    names = [f"p{number}" for number in range(10)]
    for name in names:
        await planner.offer(name, "completes")

    for name in names:
        assert (await planner.ended(name))["status"] == "complete"

    for ack in planner.acks:
        assert ack["phaseId"] in names
        assert ack["accepted"] is True
        assert isinstance(ack.get("queued", False), bool)


@pytest.mark.clause("N2.3")
async def test_times_of_a_runtime_are_times(planner: Planner) -> None:
    await planner.offer("a", "completes")
    await planner.ended("a")

    for report in planner.reports:
        for field in ("updated", "started", "finished"):
            assert RFC3339.fullmatch(report.get(field, "2025-07-19T20:00:00Z")), report


@pytest.mark.clause("D9")
async def test_an_addressed_runtime_echoes_attempt_fence_and_dispatch_id(planner: Planner) -> None:
    if planner.runtime is None:
        pytest.skip("RUNTIME_ID names no runtime: targets are not addressed, there is nothing to echo")
    target = await planner.offer("a", "completes")

    await planner.ended("a")

    for said in [*planner.acks, *planner.reports]:
        for field in ("attempt", "fence", "dispatchId", "runtimeId"):
            assert said[field] == target[field], said


@pytest.mark.clause("D9")
async def test_an_addressed_runtime_does_the_same_fence_once(planner: Planner) -> None:
    if planner.runtime is None:
        pytest.skip("RUNTIME_ID names no runtime: only addressed targets carry a fence")
    target = await planner.offer("a", "completes")
    first = await planner.ended("a")

    planner.reports.clear()
    await planner.offer("a", "completes", fence=target["fence"], dispatchId=target["dispatchId"])
    again = await planner.ended("a")

    assert (again["started"], again["finished"]) == (first["started"], first["finished"])


@pytest.mark.clause("D9")
async def test_targets_that_cannot_be_read_disturb_nothing(planner: Planner) -> None:
    subject = f"plan.session.{planner.session}.target"
    if planner.runtime is not None:
        subject = f"plan.runtime.{planner.runtime}.target"

    for data in (b"", b"{", b"[]", b'{"phaseId": 7}', b'{"targets": [{}]}'):
        await planner.nc.publish(subject, data)
    await planner.offer("a", "completes")

    assert (await planner.ended("a"))["status"] == "complete"
