"""What ``planter run`` does once the manifest is known to be good."""

import contextlib
import tempfile
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from planter.cli.differences import asked, gap_lines, plan_lines
from planter.cli.exits import Exit, Interrupted
from planter.cli.follow import Follower, Outcome, Renderer, Starting
from planter.cli.graphs import levels
from planter.cli.output import Output, counted, data, data_json, data_line, duration, note
from planter.cli.render import PlainLines, summary
from planter.cli.signals import Signals
from planter.cli.talk import connected, last_log
from planter.cli.view import SESSION_ENDED, View, view_of_plan, view_of_state
from planter.errors import TimedOut
from planter_protocol import PlanClient, Submitted
from planter_protocol.messages import PlannerInfo

if TYPE_CHECKING:
    from planter.cli.loading import Read
    from planter.local import Stack

_CANCEL_SECONDS = 15.0


class Request(msgspec.Struct, frozen=True):
    """What ``planter run`` was asked for."""

    read: "Read"
    session: str
    named: bool
    """The caller chose the session's id, so it may exist already."""
    output: Output = Output.TEXT
    timeout: float | None = None
    """Seconds to wait for the session to end."""
    nats: str | None = None
    local: bool = False
    modules: tuple[str, ...] = ()
    slots: int | None = None
    keep_data: str | None = None
    sync_always: bool = False
    """The server of ``--local`` writes to the disk before it confirms."""
    workdir: Path = Path()
    """Where the phases of ``--local`` run."""
    replan: bool = False
    expect_digest: str | None = None
    expect_revision: int | None = None
    reviewed: bool = False
    """What it would do has been shown already."""


# -- without running -----------------------------------------------------------------------------


def order_only(request: Request) -> int:
    """``--dry-run --local``: the order, without any server."""
    order = levels(request.read.plan)
    if request.output is Output.TEXT:
        for line in order_lines(order):
            data(line)
    else:
        _write(request, {"order": order})
    return Exit.OK


async def dry(request: Request) -> int:
    """``--dry-run``: the order, and what would change in the session."""
    order = levels(request.read.plan)
    async with connected(request.nats) as client:
        diff = await asked(client, request.session, request.read)
    if request.output is Output.TEXT:
        for line in (*order_lines(order), "", *plan_lines(diff)):
            data(line)
    else:
        _write(request, {"order": order, "diff": diff})
    return Exit.OK


def order_lines(order: Iterable[Iterable[str]]) -> list[str]:
    """The phases by the step in which they can run at the earliest."""
    return ["order:", *(f"  {number:>3}. {', '.join(names)}" for number, names in enumerate(order, start=1))]


async def detached(request: Request) -> int:
    """``--detach``: submit, and say how to go on."""
    async with connected(request.nats) as client:
        submitted = await _submit(client, request)
    if request.output is Output.TEXT:
        data(submitted.session)
        again = "; the same manifest was already applied" if submitted.repeated else ""
        look = _command(request, f"status {submitted.session}")
        note(f"session {submitted.session} submitted{again}: {look}")
    else:
        _write(
            request,
            {
                "sessionId": submitted.session,
                "revision": submitted.revision,
                "planDigest": submitted.plan_digest,
                "repeated": submitted.repeated,
            },
        )
    return Exit.OK


# -- running ---------------------------------------------------------------------------------------


async def followed(request: Request, signals: Signals) -> int:
    """Submit to the server that is meant, and follow. Giving up the wait leaves the session alone."""
    async with connected(request.nats) as client:
        submitted, logs_after = await _submit_all(client, request)
        name = submitted.session
        cancel = _command(request, f"control {name} cancel")
        start = await _start(client, request, submitted, logs_after)
        async with Follower(client, start, _renderer(request, start.view), signals) as follower:
            outcome = await _run(follower, request.timeout)
        match outcome:
            case Outcome.INTERRUPTED:
                note(f"stopped watching; session {name} goes on. To end it: {cancel}")
                raise Interrupted(signals.seen or 2)
            case Outcome.TIMED_OUT:
                raise _timed_out(request, f"session {name} goes on; to end it: {cancel}")
            case Outcome.ENDED:
                return await _finish(client, request, follower.view)


async def run_local(request: Request, signals: Signals) -> int:
    """``--local``: a stack for this one run. Giving up the wait cancels the session: its server ends too."""
    async with _local_stack(request) as stack, PlanClient.connected(stack.url, role="cli") as client:
        submitted, logs_after = await _submit_all(client, request)
        start = await _start(client, request, submitted, logs_after)
        async with Follower(client, start, _renderer(request, start.view), signals) as follower:
            follower.also_watch(stack.watch())
            outcome = await _run(follower, request.timeout)
            if outcome is not Outcome.ENDED:
                note(f"cancelling session {submitted.session}")
                await client.control(submitted.session, "cancel", reason=f"planter run: {outcome.value}")
                await follower.run(_CANCEL_SECONDS)
        if outcome is Outcome.INTERRUPTED:
            raise Interrupted(signals.seen or 2)
        if outcome is Outcome.TIMED_OUT:
            raise _timed_out(request, None)
        return await _finish(client, request, follower.view)


@asynccontextmanager
async def _local_stack(request: Request) -> AsyncGenerator["Stack"]:
    from planter.local import StackOptions, running_stack  # noqa: PLC0415

    with contextlib.ExitStack() as kept:
        folder = request.keep_data
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="planter-run-", ignore_cleanup_errors=True)
            folder = kept.enter_context(made)
        options = StackOptions(
            data_dir=Path(folder),
            workdir=request.workdir,
            slots=request.slots,
            modules=request.modules,
            sync_always=request.sync_always,
        )
        async with running_stack(options) as stack:
            yield stack


async def _submit_all(client: PlanClient, request: Request) -> tuple[Submitted, int]:
    """Submit, and remember where the log of this line of work begins."""
    logs_after = await last_log(client, request.session)
    return await _submit(client, request), logs_after


async def _submit(client: PlanClient, request: Request) -> Submitted:
    # Asked first, because without a planner the manifest would lie in the stream and start unasked later.
    info = await client.planner_info()
    read = request.read
    if not request.reviewed:
        _tell_gaps(info, read)
    return await client.submit(
        read.canonical(),
        session=request.session,
        replan=request.replan,
        expect_digest=request.expect_digest,
        expect_revision=request.expect_revision,
        target_phase=read.target,
    )


def _tell_gaps(info: PlannerInfo, read: "Read") -> None:
    """Say what no runtime takes now; it is submitted all the same, for one may come."""
    from planter.shell.gaps import fleet_of, gaps_of  # noqa: PLC0415

    assert read.plan is not None
    for line in gap_lines(gaps_of(fleet_of(info.runtimes), read.plan.phases)):
        note(line)


async def _start(client: PlanClient, request: Request, submitted: Submitted, logs_after: int) -> Starting:
    """The view to begin with: the plan, and for an older session what of it is done already."""
    planned = view_of_plan(submitted.session, request.read.plan)
    if submitted.repeated:
        state = await client.get_state(submitted.session)
        view = view_of_state(state, planned)
        note(f"session {submitted.session}: the same manifest was already applied, nothing new is started")
        return Starting(view, state.sequence, logs_after)
    if request.replan and submitted.after > 0:
        state = await client.get_state(submitted.session)  # what went on under the plan before goes on here
        note(f"session {submitted.session}, revision {submitted.revision}: {len(state.phases)} phases")
        return Starting(view_of_state(state, planned), state.sequence, logs_after)
    if request.named and submitted.after > 0:
        await _take_over_done(client, submitted, planned)
    return Starting(planned, submitted.after, logs_after)


async def _take_over_done(client: PlanClient, submitted: Submitted, planned: View) -> None:
    """What an earlier revision has done and this one keeps has no events any more; the state has it."""
    state = await client.get_state(submitted.session)
    touched: set[str] = set()
    for commit in await client.history(submitted.session, after=submitted.after):
        for event in commit.events:
            touched |= {event["phaseId"]} if "phaseId" in event else set(event.get("phaseIds", ()))
    kept = view_of_state(state, planned)
    for name, phase in kept.phases.items():
        if name in planned.phases and name not in touched and phase.satisfies:
            planned.phases[name] = phase
    planned.known |= kept.known
    planned.revision = submitted.revision
    unchanged = sum(1 for phase in planned.phases.values() if phase.satisfies)
    total = counted(len(planned.phases), "phase")
    name = f"session {submitted.session}, revision {submitted.revision}"
    note(f"{name}: {total}, {unchanged} of them unchanged and done")


async def _run(follower: Follower, timeout: float | None) -> Outcome:
    if follower.view.status in SESSION_ENDED:
        return Outcome.ENDED
    return await follower.run(timeout)


async def _finish(client: PlanClient, request: Request, view: View) -> int:
    if request.output is Output.JSON:
        data_json(await client.get_state(view.session))
    logs_command = None if request.local else _command(request, f"logs {view.session}")
    for line in summary(view, view.ended or 0, logs_command=logs_command):
        note(line)
    return Exit.OK if view.status == "complete" else Exit.NO


async def shown_state(session: str, nats: str | None) -> None:
    """A session as it is, as JSON."""
    async with connected(nats) as client:
        data_json(await client.get_state(session))


def _renderer(request: Request, view: View) -> Renderer:
    from planter.cli.tree import LiveTree, can_draw  # noqa: PLC0415

    if request.output is Output.TEXT and can_draw():
        return LiveTree(view)
    return PlainLines(view, request.output)


def _timed_out(request: Request, remedy: str | None) -> TimedOut:
    waited = duration(request.timeout or 0)
    return TimedOut(f"session {request.session} has not ended within {waited}", remedy)


def _command(request: Request, rest: str) -> str:
    """A command line for the same server."""
    return f"planter {rest}" + (f" --nats {request.nats}" if request.nats else "")


def _write(request: Request, document: Any) -> None:
    if request.output is Output.NDJSON:
        data_line(document)
    else:
        data_json(document)
