"""``planter artifacts``: list the files that phases have kept, and fetch one."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, SessionArgument
from planter.cli.output import Listing, ago, data_json, note, table

if TYPE_CHECKING:
    from planter_protocol import PlanClient
    from planter_protocol.artifacts import Artifact

_STDOUT = "-"
_DIGEST_SHOWN = len("sha256:") + 12


@guarded
def artifacts(  # noqa: PLR0913, PLR0917 (options of the command)
    session: SessionArgument,
    phase: Annotated[
        str | None, typer.Argument(metavar="PHASE", help="Only of this phase, and of its items.")
    ] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Only this one.")] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="FILE|-", help="Fetch the one named; a folder takes it by its name."),
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", min=1, metavar="N", help="Of this attempt, not of the last.")
    ] = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
    nats: NatsOption = None,
) -> int:
    """List the files that the phases of a session have kept, or fetch one of them.

    Example: planter artifacts nightly test report.html --to report.html
    """
    if to is not None:
        if phase is None or name is None:
            raise typer.BadParameter("--to needs PHASE and NAME: which artifact is meant")
        found = run_async(lambda _: _fetch(nats, session, phase, name, attempt, to))
        if to != _STDOUT:
            note(f"{found.bytes:,} bytes, {found.digest}")
        return Exit.OK
    listed = run_async(lambda _: _list(nats, session, phase))
    listed = [
        one for one in listed if name in (None, one.name) and (attempt is None or attempt == one.attempt)
    ]
    if output is Listing.JSON:
        data_json(listed)
    elif not listed:
        of_phase = f" of phase {phase}" if phase else ""
        note(f"no artifacts{of_phase}{f' named {name}' if name else ''}")
    else:
        rows = [
            (
                one.phase_id,
                str(one.attempt),
                one.name,
                f"{one.bytes:,}",
                one.digest[:_DIGEST_SHOWN],
                ago(one.stored),
            )
            for one in listed
        ]
        table(("PHASE", "ATTEMPT", "NAME", "BYTES", "DIGEST", "STORED"), rows)
    return Exit.OK


async def _list(nats: str | None, session: str, phase: str | None) -> "list[Artifact]":
    from planter.cli.talk import connected, require_session  # noqa: PLC0415

    async with connected(nats) as client:
        await require_session(client, session)
        return await client.artifacts(session, phase)


async def _fetch(  # noqa: PLR0913, PLR0917  (what the command line has)
    nats: str | None, session: str, phase: str, name: str, attempt: int | None, to: str
) -> "Artifact":
    from planter.cli.talk import connected, require_session  # noqa: PLC0415

    async with connected(nats) as client:
        await require_session(client, session)
        found = await client.artifact(session, phase, name, attempt)
        if to == _STDOUT:
            await _write(client, found, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return found
        with _replacing(_place(to, name)) as file:
            await _write(client, found, file)
        return found


def _place(to: str, name: str) -> Path:
    place = Path(to)
    return place / name.rpartition("/")[2] if place.is_dir() else place


@contextmanager
def _replacing(place: Path) -> Generator[BinaryIO]:
    """A file that takes the place of another when the block ends well, and else leaves nothing."""
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    with part.open("xb") as file:
        try:
            yield file
            file.flush()
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


async def _write(client: "PlanClient", found: "Artifact", file: BinaryIO) -> None:
    """The whole of it; raises ObjectBroken at its end when that is not what was stored."""
    async for chunk in client.object_bytes(found.session_id, found.digest):
        file.write(chunk)
