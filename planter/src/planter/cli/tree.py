"""The live list of a session's phases on a terminal, redrawn in place."""

import sys

from rich.console import Console
from rich.live import Live
from rich.text import Text

from planter.cli.items import beneath
from planter.cli.output import STYLES, console, counted, duration, one_line, symbol
from planter.cli.render import log_lines
from planter.cli.view import PHASE_ENDED, Change, PhaseView, View, attempt_of, progress_text
from planter_protocol import messages

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ACTIVE = ("failed", "running", "backing_off", "targeted")
_BAR = 20
_ROOM = 4
"""Lines of the terminal that the list leaves alone."""
_NAME_WIDTH_MAX = 40


class LiveTree:
    """Draws the phases on stderr; output of phases scrolls by above them."""

    def __init__(self, view: View) -> None:
        self._console = console(stderr=True)
        self._width = view.name_width(_NAME_WIDTH_MAX)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def commit(self, view: View, commit: messages.Commit, changes: list[Change]) -> None:  # noqa: ARG002
        """The next tick shows it; what the list cannot show is told above it."""
        for change in changes:
            if change.status == "expanded":
                self._width = view.name_width(_NAME_WIDTH_MAX)
            if change.status in ("refused", "withdrawn", "lost", "reset", "external"):
                self._print(
                    Text(f"{change.phase or 'session'}: {change.status} {change.detail}", style="yellow")
                )

    def log(self, line: messages.Log) -> None:
        """Above the list, or where stdout leads when that is no terminal."""
        lines = log_lines(line, self._width)
        if not sys.stdout.isatty():
            sys.stdout.write("".join(f"{text}\n" for text in lines))
            sys.stdout.flush()
            return
        name_end = max(self._width, len(line.phase_id or line.stream)) + 2
        for text in lines:
            shown = Text(text)
            shown.stylize("dim", 0, name_end)
            self._print(shown)

    def progress(self, view: View, progress: messages.Progress) -> None:
        """The next tick shows it."""

    def hint(self, text: str) -> None:
        """Above the list."""
        self._print(Text(f"hint: {text}", style="yellow"))

    def tick(self, view: View, now: int) -> None:
        """Draw again."""
        size = self._console.size
        lines = tree_lines(view, now, height=size.height - _ROOM, width=size.width)
        self._live.update(Text("\n").join(lines), refresh=True)

    def close(self, view: View, now: int) -> None:
        """Draw the last state and leave it on the terminal."""
        self.tick(view, now)
        self._live.stop()

    def _print(self, text: Text) -> None:
        self._live.console.print(text, soft_wrap=True)


def tree_lines(view: View, now: int, *, height: int, width: int) -> list[Text]:
    """The list as lines: every phase where they fit, else counts and what is going on."""
    lines = [_head(view, now)]
    phases = beneath(view.phases.values(), lambda phase: phase.id)
    name_width = view.name_width(_NAME_WIDTH_MAX)
    if len(phases) + 1 > height:
        lines.append(_counts(view))
        phases = [phase for status in _ACTIVE for phase in view.of(status)]
        room = max(1, height - 3)
        hidden = len(phases) - room
        lines += [_phase_line(view, phase, now, name_width) for phase in phases[:room]]
        if hidden > 0:
            lines.append(Text(f"   and {hidden} more", style="dim"))
    else:
        lines += [_phase_line(view, phase, now, name_width) for phase in phases]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _head(view: View, now: int) -> Text:
    total = len(view.phases)
    done = sum(1 for phase in view.phases.values() if phase.status in PHASE_ENDED)
    took = duration(((view.ended or now) - view.begun) / 1000) if view.begun else "-"
    filled = _BAR * done // total if total else _BAR
    text = Text()
    text.append(f"{view.session}", "bold")
    text.append(f"  {view.status}", STYLES.get(view.status, ""))
    text.append(f"  {took}  {done}/{counted(total, 'phase')}  ")
    text.append("█" * filled + "░" * (_BAR - filled) if _unicode() else "#" * filled + "." * (_BAR - filled))
    return text


def _counts(view: View) -> Text:
    text = Text("   ")
    for status, number in view.counts().items():
        text.append(f"{number} {status.replace('_', ' ')}  ", STYLES.get(status, ""))
    return text


def _phase_line(view: View, phase: PhaseView, now: int, name_width: int) -> Text:
    status = view.shown_status(phase)
    style = STYLES.get(status, "")
    sign = symbol(status)
    if status == "running" and _unicode():
        sign = _SPINNER[now // 100 % len(_SPINNER)]
    seconds = phase.seconds(now)
    text = Text()
    text.append(f" {sign} ", style)
    text.append(phase.id.ljust(name_width), "bold" if status == "running" else "")
    text.append(f"  {duration(seconds) if seconds is not None else '':>7}")
    if phase.attempt > 1 or status == "backing_off":
        text.append(f"  attempt {attempt_of(phase.attempt, phase.max_attempts)}", "yellow")
    if status in ("running", "targeted") and phase.runtime_id:
        text.append(f"  {phase.runtime_id}", "dim")
    detail = _detail(view, phase, status)
    if detail:
        text.append(f"  {detail}", style if status == "failed" else "dim")
    return text


def _detail(view: View, phase: PhaseView, status: str) -> str:
    waits = view.waits_for(phase)
    if waits:
        shown = ", ".join(waits[:4])
        return f"waits for {shown}" + (f" and {len(waits) - 4} more" if len(waits) > 4 else "")
    if status == "targeted" and phase.runtime_id is None:
        return "offered"
    told = view.progress.get(phase.id)
    if status == "running" and told is not None and told.attempt == phase.attempt:
        return progress_text(told)
    return one_line(phase.reason or "")


def _unicode() -> bool:
    return (sys.stderr.encoding or "").lower().startswith("utf")


def can_draw() -> bool:
    """Whether stderr is a terminal that can be drawn on."""
    target: Console = console(stderr=True)
    return target.is_terminal and not target.is_dumb_terminal
