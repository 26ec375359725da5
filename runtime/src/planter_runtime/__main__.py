"""``planter-runtime`` and ``python -m planter_runtime``: a runtime as a process of its own."""

import os
import sys

if not sys.flags.safe_path and __name__ == "__main__" and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109
    # `-m` puts the work folder first: a user's queue.py or schemas.py must not become ours.
    del sys.path[0]

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from planter_runtime.sdk import Handler
    from planter_runtime.settings import Settings

EXIT_USAGE = 2
_KINDS = ("noop", "exec", "shell", "python", "http", "container")
_LEVELS = ("none", "files", "strict")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Parse the command line and serve; the exit status is that of ``serving.run``, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)

    from planter_protocol.names import InvalidName  # noqa: PLC0415  (--help is quick)
    from planter_runtime import logs  # noqa: PLC0415
    from planter_runtime.errors import ModuleUnusable  # noqa: PLC0415
    from planter_runtime.serving import run  # noqa: PLC0415

    logs.configure(options.log_format, options.log_level)
    try:
        settings, handlers = _chosen(options)
    except (InvalidName, ModuleUnusable) as error:
        parser.exit(EXIT_USAGE, f"planter-runtime: {error}\n")
    run(settings, handlers)


def _chosen(options: argparse.Namespace) -> "tuple[Settings, tuple[Handler, ...]]":
    """Settings and handlers; labels and capabilities of loaded Runtime objects are added to the flags'."""
    from planter_protocol.names import runtime_id  # noqa: PLC0415
    from planter_runtime.loading import load_runtimes  # noqa: PLC0415
    from planter_runtime.settings import (  # noqa: PLC0415
        Settings,
        available_kinds,
        default_slots,
        nats_url,
        new_runtime_id,
    )

    workdir = options.workdir.resolve()
    runtimes = [found for module in options.module for found in load_runtimes(module, workdir)]
    labels = {key: value for runtime in runtimes for key, value in runtime.labels.items()}
    labels.update(options.label)
    if options.any_selector:
        labels["*"] = "*"
    capabilities = {name for runtime in runtimes for name in runtime.capabilities}
    settings = Settings(
        nats_url=options.nats or nats_url(),
        runtime_id=runtime_id(options.id) if options.id else new_runtime_id(),
        slots=options.slots
        or max((runtime.slots or 0 for runtime in runtimes), default=0)
        or default_slots(),
        labels=labels,
        capabilities=tuple(sorted(capabilities.union(options.capability))),
        executors=tuple(kind for kind in available_kinds() if kind not in options.no_executor),
        workdir=workdir,
        isolation=options.isolation,
        secrets=dict(options.secret),
        artifacts_max=options.artifacts_max,
        artifact_bytes_max=options.artifact_bytes_max,
        drain_seconds=options.drain_timeout,
        lease_seconds=options.lease,
    )
    return settings, tuple(handler for runtime in runtimes for handler in runtime.handlers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="planter-runtime",
        description="Take phases from Planter, execute them, report.",
        epilog="SIGTERM or SIGINT: finish what runs, then end with 0; a second one ends at once. "
        "Exit status: 1 connection or reports lost, 2 usage, 4 no NATS server, 5 the name is taken.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--nats", metavar="URL", help="NATS server [PLANTER_NATS_URL, NATS_URL, nats://127.0.0.1:4222]")
    add("--id", metavar="ID", help="name of this runtime [from the host's name]")
    add("--label", type=_label, action="append", default=[], metavar="K=V", help="matched by selectors")
    add("--any-selector", action="store_true", help="match every selector (the label *=*)")
    add("--slots", type=_positive, metavar="N", help="phases at the same time [2 a processor, at least 4]")
    add("--capability", action="append", default=[], metavar="X", help="what phases may require")
    add("--module", action="append", default=[], metavar="M", help=".py file or module with a Runtime object")
    add(
        "--no-executor", action="append", default=[], choices=_KINDS, help="do not execute this kind of x-run"
    )
    add("--secret", type=_secret, action="append", default=[], metavar="N=P", help="a file, or env:VARIABLE")
    add("--isolation", choices=_LEVELS, default="none", help="of every program, at least [none]")
    add("--artifacts-max", type=_positive, default=100, metavar="N", help="files an attempt may keep [100]")
    add("--artifact-bytes-max", type=_positive, default=1 << 30, metavar="N", help="bytes of them [1 GiB]")
    add("--drain-timeout", type=_seconds, default=30.0, metavar="S", help="for what runs at the end [30]")
    add("--lease", type=_lease, default=15.0, metavar="S", help="silence that means lost [15]")
    add("--workdir", type=_folder, default=Path(), metavar="DIR", help="where phases run [here]")
    add("--log-format", choices=("auto", "text", "json"), default="auto", help="[auto: text on a terminal]")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="[info]")
    return parser


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not a label: write KEY=VALUE")
    if key.startswith("planter."):
        raise argparse.ArgumentTypeError(f"{text!r} is not a label: Planter says itself what `planter.` is")
    return key, value


def _secret(text: str) -> tuple[str, str]:
    name, equals, place = text.partition("=")
    if not name or not equals or not place:
        raise argparse.ArgumentTypeError(f"{text!r} is not a secret: write NAME=FILE or NAME=env:VARIABLE")
    return name, place if place.startswith("env:") else str(Path(place).absolute())


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return seconds


def _lease(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError("a lease of less than a second would be lost all the time")
    return seconds


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return path


if __name__ == "__main__":
    main()
