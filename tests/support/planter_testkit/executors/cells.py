"""The table: for each property and each executor a phase and what has to come of it, or why there is none."""

import re
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from planter_testkit.engine import IMAGE

TOKEN = "correct-horse"
LIMIT = 65_536
HEARD = "heard-{}"
"""The test writes this file when it has heard something of a phase before its end."""
UNTIL_HEARD = f"while ! [ -e {HEARD.format('$PLANTER_PHASE')} ]; do sleep 0.02; done"


class Seen(NamedTuple):
    """What came of a phase."""

    report: dict[str, Any]
    out: list[str]
    """The lines that it wrote, but for those to stderr."""
    told: list[dict[str, Any]]
    """Its heartbeats and what it said of its progress."""
    requests: list[str]
    """Head and body of the requests to the server of the test, of all phases."""

    @property
    def error(self) -> dict[str, Any]:
        """Why it failed."""
        assert self.report["status"] in ("failed", "cancelled"), self.report
        return self.report["error"]


class Cell(NamedTuple):
    """A phase, and what has to come of it."""

    run: dict[str, Any] | None
    check: Callable[[Seen], bool]
    fields: dict[str, Any] = {}  # noqa: RUF012  (never changed)
    """More of its target."""
    cancel: str | None = None
    """It is cancelled when its output has this line, with "" at once."""


class No(NamedTuple):
    """Why the executor has no such property."""

    why: str


Row = dict[str, Cell | No]
HERE = ("shell", "exec")
"""What runs programs of this machine."""
PROGRAMS = (*HERE, "container")


def failed(kind: str, message: str, **more: Any) -> Callable[[Seen], bool]:
    """It failed so."""

    def check(seen: Seen) -> bool:
        has = {name: seen.error.get(name) for name in more} == more
        return seen.error["kind"] == kind and re.search(message, seen.error["message"]) is not None and has

    return check


def result(wanted: Any) -> Callable[[Seen], bool]:
    """It completed with this result; of a request, the body of the answer."""

    def check(seen: Seen) -> bool:
        given = seen.report.get("result")
        given = given["body"] if isinstance(given, dict) and "body" in given else given
        return seen.report["status"] == "complete" and given == wanted

    return check


def output(*lines: str) -> Callable[[Seen], bool]:
    """It completed and wrote these lines to stdout."""
    return lambda seen: seen.report["status"] == "complete" and seen.out == list(lines)


def cancelled(*lines: str) -> Callable[[Seen], bool]:
    """It was cancelled, and wrote these lines."""
    return lambda seen: seen.report["status"] == "cancelled" and seen.out == list(lines)


def told(*wanted: dict[str, Any]) -> Callable[[Seen], bool]:
    """It completed, and said this meanwhile."""
    return lambda seen: seen.report["status"] == "complete" and seen.told == list(wanted)


def programs(
    text: str,
    check: Callable[[Seen], bool],
    *,
    only: tuple[str, ...] = PROGRAMS,
    cancel: str | None = None,
    fields: Any = None,
    **more: Any,
) -> Row:
    """A shell script through executors of programs."""
    inside = {
        "image": IMAGE,
        "command": ["sh", "-c", text],
        "network": "none",
        "pull": "never",
        "mount": "/work",
    }
    runs = {
        "shell": {"shell": text},
        "exec": {"exec": ["sh", "-c", text]},
        "container": {"container": inside},
    }
    return {name: Cell({**runs[name], **more}, check, fields or {}, cancel) for name in only}


def function(
    name: str, check: Callable[[Seen], bool], *, cancel: str | None = None, fields: Any = None, **more: Any
) -> Row:
    """A function of ``work.py``."""
    return {"python": Cell({"python": f"work:{name}", **more}, check, fields or {}, cancel)}


def request(
    place: str, check: Callable[[Seen], bool], *, cancel: str | None = None, fields: Any = None, **more: Any
) -> Row:
    """A request to the server of the test."""
    return {"http": Cell({"http": {"url": f"URL/{place}"}, **more}, check, fields or {}, cancel)}


def handler(
    name: str, check: Callable[[Seen], bool], *, cancel: str | None = None, fields: Any = None, **more: Any
) -> Row:
    """A handler of ``handlers.py``."""
    labels = {"labels": {"phase": name}, **(fields or {})}
    return {"handler": Cell(more or None, check, labels, cancel)}


def none(why: str, *executors: str) -> Row:
    """These have no such thing."""
    return dict.fromkeys(executors, No(why))


CRASHED = failed("signal", "ended by SIGSEGV", signal="SIGSEGV")
TOO_LONG = failed("limit", "limits.cpu")
OWN_PYTHON = """python -c '
import importlib.util, os, sys
print(os.path.basename(sys.prefix), importlib.util.find_spec("msgspec") is not None, sep=chr(10))'"""
IN_PROCESS = "is a function in the process of its runtime"
NOTHING = "does nothing, and is over at once"
REQUEST = "is a request: no program, no files"
ENGINE = "is isolated by its engine"

ROWS: dict[str, Row] = {
    "`with` arrives": {
        **programs('printf %s "$PLANTER_WITH" > "$PLANTER_RESULT"', result({"n": 1}), **{"with": {"n": 1}}),
        **function("arguments", result({"n": 1}), **{"with": {"n": 1}}),
        **request("echo", result({"n": 1}), **{"with": {"n": 1}}),
        **handler("arguments", result({"n": 1}), **{"with": {"n": 1}}),
        **none("takes nothing", "noop"),
    },
    "`env` arrives": {
        **programs('echo "$GREETING"', output("hello"), env={"GREETING": "hello"}),
        **function("variable", output("hello"), env={"GREETING": "hello"}),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "the runtime's environment is not inherited": {
        **programs("env | grep -c OF_THE_RUNTIME; true", output("0")),
        **function("environment", output("0")),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`cwd` is where it works": {
        **programs("cat here", output("inside"), cwd="sub"),
        **function("folder", output("inside"), cwd="sub"),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`venv` is its Python": {
        **programs(OWN_PYTHON, output("venv", "False"), only=HERE, venv="venv"),
        **function("own_python", output("venv", "False", "heartbeat"), venv="venv"),
        **none("has the Python of its image", "container"),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "a result": {
        **programs("""printf '{"rows": [1, 2]}' > "$PLANTER_RESULT" """, result({"rows": [1, 2]})),
        **function("rows", result({"rows": [1, 2]})),
        **request("rows", result({"rows": [1, 2]})),
        **handler("rows", result({"rows": [1, 2]})),
        "noop": Cell({"noop": {"result": {"rows": [1, 2]}}}, result({"rows": [1, 2]})),
    },
    "output is whole and in order": {
        **programs(
            "n=0; while [ $n -lt 2000 ]; do echo $n; n=$((n + 1)); done", output(*map(str, range(2_000)))
        ),
        **function("lines", output(*map(str, range(2_000)))),
        **none("logs one line of its own", "http"),
        **handler("lines", output(*map(str, range(2_000)))),
        **none(NOTHING, "noop"),
    },
    "binary output is readable": {
        **programs("head -c 100000 /dev/urandom; echo; echo end", lambda seen: seen.out[-1] == "end"),
        **function("binary", lambda seen: seen.out[-1] == "end"),
        **request("binary", lambda seen: seen.report["result"]["bodyBytes"] == 3),
        **none("logs text", "handler"),
        **none(NOTHING, "noop"),
    },
    "why it failed": {
        **programs("echo oops >&2; exit 3", failed("exit", "exited with code 3: oops", exitCode=3)),
        **function("broken", failed("exception", "ValueError: oops")),
        **request("broken", failed("http", "503")),
        **handler("broken", failed("exception", "ValueError: oops")),
        **none("cannot fail", "noop"),
    },
    "a signal is told from an exit code": {
        **programs("kill -SEGV $$", CRASHED, only=HERE),
        **programs("sh -c 'kill -SEGV $$'; exit $?", CRASHED, only=("container",)),
        **function("crash", CRASHED),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "what is not there is not tried again": {
        "shell": Cell({"shell": "true", "cwd": "nowhere"}, failed("refused", "nowhere", retryable=False)),
        "exec": Cell({"exec": ["no-such"]}, failed("refused", "was not found", retryable=False)),
        "python": Cell({"python": "absent:f"}, failed("refused", "no module 'absent'", retryable=False)),
        "container": Cell(
            {"container": {"image": "localhost/absent:1", "pull": "never"}},
            failed("refused", "absent", retryable=False),
        ),
        **request("absent", failed("http", "404", retryable=False)),
        **none("is rejected when it is offered", "handler"),
        **none(NOTHING, "noop"),
    },
    "a timeout ends it and what it began": {
        **programs(
            "trap '' TERM; (trap '' TERM; echo $$ >> left; sleep 1000) & wait",
            failed("timeout", "timed out after 1,?500 ms"),
            fields={"timeoutMs": 1_500},
        ),
        **function("stays", failed("timeout", "timed out"), fields={"timeoutMs": 1_500}),
        **request("slow", failed("timeout", "timed out"), fields={"timeoutMs": 1_500}),
        **handler("waits", failed("timeout", "timed out"), fields={"timeoutMs": 1_500}),
        **none(NOTHING, "noop"),
    },
    "a cancelled one has time for last words": {
        **programs(
            "trap 'echo last; exit 0' TERM; echo up; while :; do sleep 0.05; done",
            cancelled("up", "last"),
            cancel="up",
        ),
        **function("tidies", cancelled("up", "last"), cancel="up"),
        **none("ends by closing its connection", "http"),
        **handler("tidies", cancelled("up", "last"), cancel="up"),
        **none(NOTHING, "noop"),
    },
    "cancelled while it starts": {
        **programs("sleep 1000", cancelled(), cancel=""),
        **function("sleeps", cancelled(), cancel=""),
        **request("slow", lambda seen: seen.report["status"] == "cancelled", cancel=""),
        **handler("waits", cancelled(), cancel=""),
        **none(NOTHING, "noop"),
    },
    "nothing of it stays behind": {
        **programs(
            "setsid sh -c 'echo $$ >> left; exec sleep 1000' & while ! [ -s left ]; do sleep 0.01; done",
            output(),
        ),
        **function("leaves", output()),
        **none("begins nothing", "http", "noop"),
        **none(IN_PROCESS, "handler"),
    },
    "secrets are masked": {
        **programs('echo "$TOKEN ${#TOKEN}"', output(f"*** {len(TOKEN)}"), secrets={"TOKEN": "token"}),
        **function("secret", output(f"*** {len(TOKEN)}"), secrets={"TOKEN": "token"}),
        "http": Cell(
            {"http": {"url": "URL/echo", "body": "$(TOKEN)"}, "secrets": {"TOKEN": "token"}},
            lambda seen: result("***")(seen) and any(one.endswith(TOKEN) for one in seen.requests),
        ),
        **none("has those of its own process", "handler"),
        **none(NOTHING, "noop"),
    },
    "`limits.output`": {
        **programs("yes", failed("limit", "limits.output"), limits={"output": LIMIT}),
        **function("chatters", failed("limit", "limits.output"), limits={"output": LIMIT}),
        **request("large", failed("http", "the answer has more than 262,144 bytes", retryable=False)),
        **none("is trusted as its runtime is", "handler"),
        **none(NOTHING, "noop"),
    },
    "`limits.memory`": {
        "shell": Cell(
            {"shell": "exec python -c 'bytearray(2**30)'", "limits": {"memory": 2**28}},
            failed("exit", "MemoryError"),
        ),
        "exec": Cell(
            {"exec": ["python", "-c", "bytearray(2**30)"], "limits": {"memory": 2**28}},
            failed("exit", "MemoryError"),
        ),
        **programs(
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true",
            output(str(2**26)),
            only=("container",),
            limits={"memory": 2**26},
        ),
        **function("greedy", failed("exception", "MemoryError"), limits={"memory": 2**29}),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`limits.cpu`": {
        **programs("while :; do :; done", TOO_LONG, only=HERE, limits={"cpu": 1}),
        **programs("sh -c 'while :; do :; done'; exit $?", TOO_LONG, only=("container",), limits={"cpu": 1}),
        **function("spins", TOO_LONG, limits={"cpu": 1}),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`limits.openFiles`": {
        **programs("ulimit -n", output("64"), limits={"openFiles": 64}),
        **function("files", output("64"), limits={"openFiles": 64}),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`limits.fileSize`": {
        **programs(
            "ulimit -f",
            lambda seen: seen.out in (["2048"], ["1024"]),  # blocks of 512 bytes; of 1,024 in some shells
            limits={"fileSize": 2**20},
        ),
        **function("file_size", output(str(2**20)), limits={"fileSize": 2**20}),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "`isolation: strict` has no network": {
        **programs(
            "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '", output("lo"), only=HERE, isolation="strict"
        ),
        **function("interfaces", output("lo"), isolation="strict"),
        **none(ENGINE, "container"),
        **none(REQUEST, "http"),
        **none(IN_PROCESS, "handler"),
        **none(NOTHING, "noop"),
    },
    "heartbeats": {
        **programs(
            f"""printf '{{"at": 1}}\\n' >> "$PLANTER_HEARTBEAT"; {UNTIL_HEARD}""",
            told({"at": 1}),
            fields={"heartbeatMs": 10_000},
        ),
        **none("gives none", "http"),
        **function("beats", told({"at": 1}), fields={"heartbeatMs": 10_000}),
        **handler("beats", told({"at": 1}), fields={"heartbeatMs": 10_000}),
        **none(NOTHING, "noop"),
    },
    "progress": {
        **programs(
            f"""echo "1/2 rows" > "$PLANTER_PROGRESS"; {UNTIL_HEARD}""",
            told({"done": 1, "total": 2, "message": "rows"}),
        ),
        **function("progresses", told({"done": 1, "total": 2, "message": "rows"})),
        **none("says nothing before its answer", "http"),
        **handler("progresses", told({"done": 1, "total": 2, "message": "rows"})),
        **none(NOTHING, "noop"),
    },
}

EXECUTORS = ("shell", "exec", "python", "container", "http", "handler", "noop")


def cells_of(executor: str) -> dict[str, Cell]:
    """The phases of one executor by property."""
    return {name: cell for name, row in ROWS.items() if isinstance(cell := row[executor], Cell)}


def table() -> str:
    """The table as Markdown: what is held by a test, and what there is not."""
    lines = [f"| | {' | '.join(f'`{name}`' for name in EXECUTORS)} |", "|---" * (len(EXECUTORS) + 1) + "|"]
    reasons: list[str] = []
    for name, row in ROWS.items():
        shown = [_shown(row[executor], reasons) for executor in EXECUTORS]
        lines.append(f"| {name} | {' | '.join(shown)} |")
    notes = [f"{number}. It {why}." for number, why in enumerate(reasons, start=1)]
    return "\n".join([*lines, "", *notes])


def _shown(cell: Cell | No, reasons: list[str]) -> str:
    if isinstance(cell, Cell):
        return "✓"
    if cell.why not in reasons:
        reasons.append(cell.why)
    return f"no ({reasons.index(cell.why) + 1})"


def write_work(folder: Path) -> None:
    """Files that the phases need: a module of functions, one of handlers, a secret, a folder."""
    from planter_testkit.executors import sources

    (folder / "work.py").write_text(sources.WORK)
    (folder / "handlers.py").write_text(sources.HANDLERS)
    (folder / "token").write_text(TOKEN)
    (folder / "sub").mkdir()
    (folder / "sub" / "here").write_text("inside\n")
    venv.create(folder / "venv", symlinks=True)
