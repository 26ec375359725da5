"""``planter doctor``: what the server really promises, and what is wrong, each with cause and remedy."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from planter.cli.exits import Exit, guarded, run_async
from planter.cli.options import NatsOption, settings
from planter.cli.output import Listing, console, counted, data_json, note

if TYPE_CHECKING:
    from rich.console import Console

    from planter.doctor import Finding, Report

_MARKS = {"ok": ("✓", "+", "green"), "warning": ("!", "!", "yellow"), "failure": ("✗", "x", "bold red")}
_NAME_WIDTH = 13


@guarded
def doctor(
    nats: NatsOption = None,
    monitor: Annotated[
        list[str] | None,
        typer.Option(
            "--monitor",
            metavar="URL",
            help="Monitoring address of a server, http://host:8222: it tells the sync setting and the disk. "
            "May be repeated, once a server.",
        ),
    ] = None,
    output: Annotated[Listing, typer.Option("--output", "-o", help="text or json.")] = Listing.TEXT,
) -> int:
    """Check a server: what it promises, its streams, permissions, clock, and who is alive.

    Changes and stores nothing. Status 0: no failure (warnings allowed), 1: a check failed, 4: no server.

    Example: planter doctor --nats nats://nats.internal:4222 --monitor http://nats.internal:8222
    """
    url = settings(nats_url=nats).nats_url
    report = run_async(lambda _: _examined(url, tuple(monitor or ())))
    if output is Listing.JSON:
        data_json(as_json(report))
    else:
        target = console()
        for finding in report.findings:
            _show(target, finding)
        note(summary(report))
    return Exit.NO if report.level == "failure" else Exit.OK


async def _examined(url: str, monitors: tuple[str, ...]) -> "Report":
    from planter.doctor import examine, gather  # noqa: PLC0415

    return examine(await gather(url, monitors))


def summary(report: "Report") -> str:
    """The last line: how many findings of which kind."""
    failures, warnings = (
        sum(1 for finding in report.findings if finding.level == level) for level in ("failure", "warning")
    )
    if failures or warnings:
        return f"{counted(failures, 'failure')}, {counted(warnings, 'warning')}"
    return "all is well"


def as_json(report: "Report") -> dict[str, Any]:
    """The report as one document."""
    return {
        "server": report.server,
        "level": report.level,
        "durability": report.durability,
        "findings": report.findings,
    }


def _show(target: "Console", finding: "Finding") -> None:
    from rich.text import Text  # noqa: PLC0415

    unicode, ascii_, style = _MARKS[finding.level]
    mark = unicode if (target.encoding or "ascii").lower().startswith("utf") else ascii_
    indent = " " * (_NAME_WIDTH + 4)
    lines = [
        Text.assemble((mark, style), " ", (finding.check.ljust(_NAME_WIDTH), "bold"), "  ", finding.text)
    ]
    lines += [Text(f"{indent}{detail}") for detail in finding.details]
    if finding.cause:
        lines.append(Text.assemble(f"{indent}", ("cause", "cyan"), f": {finding.cause}"))
    if finding.remedy:
        lines.append(Text.assemble(f"{indent}", ("help", "cyan"), f": {finding.remedy}"))
    for line in lines:
        target.print(line, soft_wrap=True)
