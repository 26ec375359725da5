"""``planter control``: change what a session does."""
# ruff: noqa: PLR0913, PLR0917 - typer makes options of parameters, and flags of boolean defaults

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, SessionArgument
from planter.cli.output import Listing, data, data_json

if TYPE_CHECKING:
    import msgspec

    from planter_protocol.messages import Commit, Control


class Command(StrEnum):
    """What a session can be told."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    SKIP = "skip"
    RERUN = "rerun"
    APPROVE = "approve"
    REJECT = "reject"


_ANSWERS = (Command.APPROVE, Command.REJECT)
_NEEDS_PHASE = (Command.SKIP, Command.RERUN, *_ANSWERS)
_TAKES_PHASE = (*_NEEDS_PHASE, Command.RETRY)


@guarded
def control(
    session: SessionArgument,
    command: Annotated[Command, typer.Argument(help="What to do.")],
    phase: Annotated[
        str | None,
        typer.Argument(metavar="PHASE", help="For all but pause, resume, cancel; retry without: all failed."),
    ] = None,
    comment: Annotated[
        str | None, typer.Option("--comment", help="With approve and reject: kept in the journal.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who approves or rejects [your user name].")
    ] = None,
    answer_data: Annotated[
        str | None,
        typer.Option("--data", metavar="JSON", help="With approve: an object, outputs of the phase."),
    ] = None,
    plan_digest: Annotated[
        str | None,
        typer.Option("--plan-digest", metavar="DIGEST", help="Refuse the answer when the plan is another."),
    ] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Kept in the journal.")] = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """Pause, resume or cancel a session; retry, skip or rerun a phase; approve or reject what asks for it.

    Returns when a planner has taken the command in, with status 5 when it refused.

    Example: planter control nightly retry lint --reason "network is back"
    """
    if phase is None and command in _NEEDS_PHASE:
        raise typer.BadParameter(f"{command} needs a phase: planter control {session} {command} PHASE")
    if phase is not None and command not in _TAKES_PHASE:
        raise typer.BadParameter(f"{command} is for the whole session, without a phase")
    given = {"--comment": comment, "--by": by, "--data": answer_data, "--plan-digest": plan_digest}
    if command not in _ANSWERS and (odd := [name for name, value in given.items() if value is not None]):
        raise typer.BadParameter(f"{', '.join(odd)}: only approve and reject take that")
    from planter_protocol.messages import Control  # noqa: PLC0415

    order = Control(command=command.value, phase_id=phase, reason=reason)
    if command in _ANSWERS:
        order = Control(
            command=command.value,
            phase_id=phase,
            by=by if by is not None else _user(),
            comment=comment if comment is not None else reason,
            plan_digest=plan_digest,
            data=_object(answer_data),
        )
    commit = run_async(lambda _: _control(session, order, nats))
    if output is Listing.JSON:
        data_json(commit)
    else:
        changed = (
            "" if any(event["type"] != "InputRepeated" for event in commit.events) else " (it is so already)"
        )
        data(f"{session}: {command}{f' {phase}' if phase else ''} taken in{changed}")
    return Exit.OK


def _user() -> str:
    """The name of whoever runs this, as the system has it."""
    from getpass import getuser  # noqa: PLC0415

    try:
        return getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("your user has no name here: say who answers with --by") from None


def _object(text: str | None) -> "msgspec.Raw | msgspec.UnsetType":
    import msgspec  # noqa: PLC0415

    if text is None:
        return msgspec.UNSET
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"--data is no JSON object: {error}") from None
    return msgspec.Raw(text.encode())


async def _control(session: str, order: "Control", nats: str | None) -> "Commit":
    from planter.cli.talk import connected  # noqa: PLC0415

    async with connected(nats) as client:
        return await client.send_control_confirmed(session, order)
