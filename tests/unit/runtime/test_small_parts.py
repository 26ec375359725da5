"""Lines, messages of the outbox, ``x-run``, handlers: the pure parts around the decisions."""

import subprocess
import sys
import time

import msgspec
import pytest

from planter_protocol.messages import Report, Reports, Target
from planter_runtime import Runtime, loading
from planter_runtime.errors import HandlerUnusable, ModuleUnusable, RunUnusable
from planter_runtime.lines import CUT_MARK, LINE_BYTES_MAX, LineSplitter
from planter_runtime.outbox import MESSAGE_BYTES_MAX, messages
from planter_runtime.outcomes import completed
from planter_runtime.work import best_handler, read_work

# -- lines -----------------------------------------------------------------------------------


def test_lines_are_whole_however_they_were_read() -> None:
    splitter = LineSplitter()

    assert splitter.feed(b"one\ntw") == ["one"]
    assert splitter.feed(b"o\r\n\nthree") == ["two", ""]
    assert splitter.end() == ["three"]
    assert splitter.end() == []


def test_a_character_that_is_split_between_two_reads_survives() -> None:
    splitter = LineSplitter()

    assert splitter.feed("ü".encode()[:1]) + splitter.feed("ü\n".encode()[1:]) == ["ü"]


def test_invalid_utf8_is_replaced() -> None:
    assert LineSplitter().feed(b"a\xff\x00b\n") == ["a\ufffd\x00b"]


@pytest.mark.parametrize("size", [1, 1000, LINE_BYTES_MAX, 3 * LINE_BYTES_MAX])
def test_a_long_line_is_cut_once_with_a_mark_in_bounded_memory(size: int) -> None:
    splitter = LineSplitter()
    data = b"x" * (5 * LINE_BYTES_MAX) + b"\nnext\n"
    lines = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]

    assert lines == ["x" * LINE_BYTES_MAX + CUT_MARK, "next"]


def test_a_long_line_without_an_end_is_told_once() -> None:
    splitter = LineSplitter()

    assert len(splitter.feed(b"x" * (2 * LINE_BYTES_MAX))) == 1
    assert splitter.feed(b"y" * 10) == []
    assert splitter.end() == []


# -- messages of the outbox --------------------------------------------------------------------


def test_one_report_is_sent_as_it_is_and_several_as_a_list() -> None:
    report = msgspec.json.encode(Report(phase_id="a", status="complete"))

    assert list(messages(b"reports", [report])) == [report]
    (many,) = messages(b"reports", [report] * 3)
    assert len(msgspec.json.decode(many, type=Reports).each()) == 3


def test_messages_are_split_below_their_limit() -> None:
    items = [b'"%b"' % (b"x" * 60_000)] * 10
    split = list(messages(b"reports", items))

    assert max(map(len, split)) <= MESSAGE_BYTES_MAX
    assert sum(len(msgspec.json.decode(message)["reports"]) for message in split) == 10


# -- x-run -------------------------------------------------------------------------------------


def work(run: dict | None, tmp_path, **more):
    raw = msgspec.UNSET if run is None else msgspec.Raw(msgspec.json.encode(run))
    return read_work(Target(phase_id="a", reason="", session_id="s", run=raw, **more), tmp_path)


@pytest.mark.parametrize(
    ("run", "kind"),
    [
        ({"noop": {}}, "noop"),
        ({"exec": ["true"]}, "exec"),
        ({"shell": "true", "with": {"a": [1]}, "env": {"A": "b"}}, "shell"),
        ({"python": "m:f", "timeout": 3}, "python"),
        ({"container": {"image": "x"}}, "container"),
        (None, "handler"),
        ({"with": {"a": 1}, "timeout": "3s", "x-note": "n"}, "handler"),
    ],
)
def test_the_kind_of_x_run_is_found(run, kind, tmp_path) -> None:
    assert work(run, tmp_path).kind == kind


def test_a_way_to_run_of_a_later_version_is_not_taken_for_arguments(tmp_path) -> None:
    with pytest.raises(RunUnusable, match="0 ways to run"):
        work({"wasm": {"module": "x"}, "with": {"a": 1}}, tmp_path)


@pytest.mark.parametrize(
    "run",
    [
        {},
        {"exec": "true"},
        {"exec": []},
        {"warp": {}},
        {"noop": {}, "shell": "x"},
        {"shell": "x", "cwd": "a/../.."},
    ],
)
def test_what_cannot_be_run_is_refused_with_a_reason(run, tmp_path) -> None:
    with pytest.raises(RunUnusable, match=r"x-run|cwd"):
        work(run, tmp_path)


def test_cwd_is_inside_the_work_folder_or_absolute(tmp_path) -> None:
    assert work({"noop": {}, "cwd": "a/../b"}, tmp_path).folder == tmp_path / "a/../b"
    assert str(work({"noop": {}, "cwd": "/srv"}, tmp_path).folder) == "/srv"


def test_a_result_over_the_limit_is_a_failure_that_says_what_to_do() -> None:
    outcome = completed(b'"%b"' % (b"x" * 16_777_216))

    assert "16,777,218 bytes" in outcome.failure.message
    assert not outcome.failure.retryable


# -- handlers ----------------------------------------------------------------------------------


def test_the_handler_with_most_labels_wins() -> None:
    handlers = {0: {}, 1: {"phase": "a"}, 2: {"phase": "a", "zone": "x"}, 3: {"phase": "b"}}

    assert best_handler(handlers, {"phase": "a", "zone": "x", "more": "y"}) == 2
    assert best_handler(handlers, {"phase": "a"}) == 1
    assert best_handler(handlers, {}) == 0
    assert best_handler({1: {"phase": "a"}}, {"phase": "b"}) is None


def test_a_handler_takes_the_context_or_nothing() -> None:
    runtime = Runtime()

    @runtime.handler(phase="a")
    def with_context(ctx):
        return ctx

    @runtime.handler({"a/b": "c"})
    async def without():
        return None

    @runtime.handler()
    def with_default(size=3):
        return size

    assert [(h.signature.context is not None, h.is_async, h.labels) for h in runtime.handlers] == [
        (True, False, {"phase": "a"}),
        (False, True, {"a/b": "c"}),
        (False, False, {}),
    ]


def test_a_function_that_no_call_would_fit_is_refused_where_it_is_registered() -> None:
    runtime = Runtime()

    runtime.handler(phase="a")(lambda: None)
    with pytest.raises(HandlerUnusable, match="have a handler already"):
        runtime.handler(phase="a")(lambda: None)


def test_a_file_with_handlers_is_loaded_and_does_not_start_a_runtime_of_its_own(tmp_path) -> None:
    (tmp_path / "steps_of_test.py").write_text("def step(): return 1\n")
    (tmp_path / "handlers_of_test.py").write_text(
        "from planter_runtime import Runtime\nfrom steps_of_test import step\n"
        "runtime = Runtime()\nruntime.handler(phase='a')(step)\nruntime.run()\n"
    )
    (found,) = loading.load_runtimes("handlers_of_test.py", tmp_path)

    assert len(found.handlers) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "there is no file"), ("x = 1", "holds no Runtime"), ("raise SystemExit(3)", "SystemExit: 3")],
)
def test_a_module_that_cannot_be_served_says_why(tmp_path, text, reason) -> None:
    if text is not None:
        (tmp_path / "broken_of_test.py").write_text(text)

    with pytest.raises(ModuleUnusable, match=reason):
        loading.load_runtimes("broken_of_test.py", tmp_path)


def test_importing_the_sdk_is_light() -> None:
    code = "import sys; from planter_runtime import Runtime, PhaseContext; print(*sys.modules)"
    begun = time.perf_counter()
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"nats", "anyio", "structlog", "asyncio", "msgspec"} & set(loaded.stdout.split()) == set()
    print(f"interpreter and import: {(time.perf_counter() - begun) * 1000:.0f} ms")
