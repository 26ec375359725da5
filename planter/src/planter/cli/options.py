"""Arguments and options that several commands share, with one wording each."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from planter.settings import Settings


class Sync(StrEnum):
    """When the embedded server writes to the disk."""

    DEFAULT = "default"
    ALWAYS = "always"


SessionArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the session.")]
NatsOption = Annotated[
    str | None,
    typer.Option(
        "--nats", metavar="URL", help="Address of the NATS server, nats://host:port [env: PLANTER_NATS_URL]."
    ),
]
VarOption = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="Value for ${NAME} in the manifest; may be repeated."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Take warnings as errors.")]
TimeoutOption = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Stop waiting after this long: 90s, 10m, 1h30m."),
]
ModuleOption = Annotated[
    list[str] | None,
    typer.Option("--module", metavar="FILE", help="Python file or module with handlers for the runtime."),
]
SlotsOption = Annotated[
    int | None, typer.Option("--slots", min=1, metavar="N", help="Phases that run at the same time.")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="Folder for the server's data [env: PLANTER_DATA]."),
]
SyncOption = Annotated[
    Sync | None,
    typer.Option(
        "--sync",
        help="Write to the disk before confirming: survives a power cut, slower [env: PLANTER_SYNC].",
    ),
]
HttpOption = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="HOST:PORT|off",
        help="Where to listen for HTTP [127.0.0.1:6767] [env: PLANTER_HTTP].",
    ),
]
LogFormatOption = Annotated[
    str | None, typer.Option("--log-format", metavar="auto|text|json", help="How log lines are written.")
]


def variables(given: Sequence[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` pairs as a dict."""
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--var {pair!r}: write NAME=VALUE")
        found[name] = value
    return found


def modules(given: Sequence[str] | None) -> tuple[str, ...]:
    """Modules for the runtime; files as absolute paths, because the runtime works in another folder."""
    found: list[str] = []
    for module in given or ():
        looks_like_file = module.endswith(".py") or "/" in module
        if looks_like_file and not Path(module).is_file():
            raise typer.BadParameter(f"--module {module}: there is no such file")
        found.append(str(Path(module).absolute()) if looks_like_file else module)
    return tuple(found)


def settings(**flags: str | None) -> "Settings":
    """The settings in effect, given the flags of this command."""
    from planter.settings import load_settings  # noqa: PLC0415

    return load_settings(flags)
