"""The application: every command in its place, and what happens before any of them."""
# ruff: noqa: FBT002 - typer makes options of parameters, and flags of boolean defaults

import os
from typing import Annotated

import typer

from planter.cli import act, artifacts, check, daemons, doctor, explain, look, plan, run
from planter.cli.exits import set_debug

_EXIT_STATUSES = (
    "Exit status: 0 ok; 1 it ran and the answer is no; 2 usage; 3 invalid manifest or settings; "
    "4 no server reachable; 5 refused; 6 not found; 124 timed out; 130, 143 interrupted."
)

app = typer.Typer(
    name="planter",
    help="Planter runs phases: publish a manifest, and runtimes do the work, in order, durably.\n\n"
    "Example: planter run site.planter.yaml --local",
    epilog=_EXIT_STATUSES,
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help takes 90 ms, a drawn one 210 ms
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it with the option's value)
    if wanted:
        from planter import __version__  # noqa: PLC0415

        typer.echo(f"planter {__version__}")
        raise typer.Exit


@app.callback()
def _before(  # pyright: ignore[reportUnusedFunction]: typer calls it
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show Python tracebacks [env: PLANTER_DEBUG].")
    ] = False,
) -> None:
    del version
    set_debug(on=debug or os.environ.get("PLANTER_DEBUG", "") not in ("", "0"))


app.command()(daemons.dev)
app.command()(daemons.serve)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)(daemons.runtime)
app.command(no_args_is_help=True)(run.run)
app.command(no_args_is_help=True)(check.validate)
app.command(no_args_is_help=True)(check.graph)
app.command()(look.sessions)
app.command(no_args_is_help=True)(look.status)
app.command(no_args_is_help=True)(look.events)
app.command(no_args_is_help=True)(look.logs)
app.command(no_args_is_help=True)(artifacts.artifacts)
app.command(no_args_is_help=True)(act.control)
app.command(no_args_is_help=True)(plan.plan)
app.command(no_args_is_help=True)(plan.apply)
app.command(no_args_is_help=True)(explain.explain)
app.command()(doctor.doctor)


def main() -> None:
    """The program ``planter``."""
    app(prog_name="planter")
