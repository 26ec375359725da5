"""``planter control``: change what a session does."""
# ruff: noqa: PLR0913, PLR0917 - typer makes options of parameters, and flags of boolean defaults

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, SessionArgument
from planter.cli.output import Listing, data, data_json

if TYPE_CHECKING:
    from planter_protocol.messages import Commit


class Command(StrEnum):
    """What a session can be told."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    SKIP = "skip"
    RERUN = "rerun"


_NEEDS_PHASE = (Command.SKIP, Command.RERUN)
_TAKES_PHASE = (*_NEEDS_PHASE, Command.RETRY)


@guarded
def control(
    session: SessionArgument,
    command: Annotated[Command, typer.Argument(help="What to do.")],
    phase: Annotated[
        str | None, typer.Argument(metavar="PHASE", help="For retry (all failed ones without), skip, rerun.")
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Kept in the journal.")] = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """Pause, resume or cancel a session; retry, skip or rerun a phase.

    Returns when a planner has taken the command in, with status 5 when it refused.

    Example: planter control nightly retry lint --reason "network is back"
    """
    if phase is None and command in _NEEDS_PHASE:
        raise typer.BadParameter(f"{command} needs a phase: planter control {session} {command} PHASE")
    if phase is not None and command not in _TAKES_PHASE:
        raise typer.BadParameter(f"{command} is for the whole session, without a phase")
    commit = run_async(lambda _: _control(session, command, phase, reason, nats))
    if output is Listing.JSON:
        data_json(commit)
    else:
        changed = (
            "" if any(event["type"] != "InputRepeated" for event in commit.events) else " (it is so already)"
        )
        data(f"{session}: {command}{f' {phase}' if phase else ''} taken in{changed}")
    return Exit.OK


async def _control(
    session: str, command: Command, phase: str | None, reason: str | None, nats: str | None
) -> "Commit":
    from planter.cli.talk import connected  # noqa: PLC0415

    async with connected(nats) as client:
        return await client.control_confirmed(session, command.value, phase=phase, reason=reason)
