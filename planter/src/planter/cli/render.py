"""Plain rendering of a session: one line a change, output of phases with the phase's name before it."""

import shlex
import sys
import time
from typing import TextIO

from planter.cli.output import Output, counted, data_line, duration, one_line, symbol
from planter.cli.view import SESSION_ENDED, Change, PhaseView, View, progress_text
from planter_protocol import messages

_QUIET = frozenset({"applied"})
_NAME_WIDTH_MAX = 32


class PlainLines:
    """For pipes, CI and dumb terminals: lines only, nothing is ever drawn over.

    Status lines go to stderr. Output of phases goes to stdout, unless stdout carries JSON.
    """

    def __init__(self, view: View, output: Output = Output.TEXT) -> None:
        self._output = output
        self._begun: int | None = None
        self._tenths: dict[tuple[str, int], int] = {}
        self._width = view.name_width(_NAME_WIDTH_MAX)

    def commit(self, view: View, commit: messages.Commit, changes: list[Change]) -> None:
        """One line a change, and the commit itself as NDJSON when that is wanted."""
        if self._output is Output.NDJSON:
            data_line(commit)
        if self._begun is None:
            self._begun = view.begun
        if any(change.status == "expanded" for change in changes):
            # The names of items are longer than that of their phase.
            self._width = view.name_width(_NAME_WIDTH_MAX)
        for change in changes:
            if change.status not in _QUIET and not (change.phase is None and change.status in SESSION_ENDED):
                _write(sys.stderr, self._line(view, change))

    def log(self, line: messages.Log) -> None:
        """Each line with the phase's name before it."""
        stream = sys.stdout if self._output is Output.TEXT else sys.stderr
        _write(stream, *log_lines(line, self._width))

    def progress(self, view: View, progress: messages.Progress) -> None:
        """Seldom, for lines stay: another one when a tenth more is done, or without a total not at all."""
        tenth = int(10 * progress.done / progress.total) if progress.total else 0
        key = (progress.phase_id, progress.attempt)
        if tenth > self._tenths.get(key, 0) and self._begun is not None:
            self._tenths[key] = tenth
            change = Change(int(time.time() * 1000), progress.phase_id, "running", progress_text(progress))
            _write(sys.stderr, self._line(view, change, told=True))

    def hint(self, text: str) -> None:
        """``hint: ...`` on stderr."""
        _write(sys.stderr, f"hint: {text}")

    def tick(self, view: View, now: int) -> None:
        """Nothing moves here."""

    def close(self, view: View, now: int) -> None:
        """Nothing is left to show."""

    def _line(self, view: View, change: Change, *, told: bool = False) -> str:
        elapsed = duration((change.at - self._begun) / 1000) if self._begun else ""
        took = ""
        phase = view.phases.get(change.phase) if change.phase is not None else None
        if phase is not None and change.status in ("complete", "failed") and phase.started is not None:
            took = duration(phase.seconds(change.at) or 0)
        if phase is not None and change.status == "running" and phase.runtime_id and not told:
            took = f"on {phase.runtime_id}"
        parts = (took, one_line(change.detail, 200))
        return (
            f"{elapsed:>8}  {symbol(change.status)} {(change.phase or 'session').ljust(self._width)}  "
            f"{change.status.ljust(11)} {'  '.join(part for part in parts if part)}"
        ).rstrip()


def log_lines(line: messages.Log, width: int = 0) -> list[str]:
    """A log message as lines, each with the phase's name before it."""
    who = (line.phase_id or line.stream).ljust(width)
    return [f"{who} | {printable(text)}" for text in line.message.splitlines() or [""]]


def printable(text: str) -> str:
    """The text without control characters: output of a phase must not steer the terminal of a reader."""
    return "".join(
        char if char.isprintable() or char == "\t" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def summary(view: View, now: int, *, logs_command: str | None = None) -> list[str]:
    """The last words: counts and time, and for each failed phase why, and how to see more."""
    counts = view.counts()
    took = duration(((view.ended or now) - view.begun) / 1000) if view.begun else "no time"
    listed = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items())
    head = f"{symbol(view.status)} session {view.session} {view.status}: {counted(len(view.phases), 'phase')}"
    lines = [f"{head} in {took} ({listed})" if listed else f"{head} in {took}"]
    if view.reason and view.status != "complete":
        lines.append(f"  because: {one_line(view.reason, 300)}")
    for phase in view.of("failed"):
        lines.append(f"  {symbol('failed')} {_failure(phase)}")
        if logs_command and not phase.is_gate:
            lines.append(f"      see: {logs_command} {shlex.quote(phase.id)}")
    return lines


def _failure(phase: PhaseView) -> str:
    attempts = f" after {counted(phase.attempt, 'attempt')}" if phase.attempt > 1 else ""
    return f"{phase.id}{attempts}: {one_line(phase.reason or 'no reason was given', 300)}"


def _write(stream: TextIO, *lines: str) -> None:
    stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()
