"""Arguments of handlers, and running them without NATS."""

import asyncio
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pydantic
import pytest

from planter_runtime import PermanentFailure, PhaseContext
from planter_runtime.errors import HandlerUnusable
from planter_runtime.testing import call_handler, run_handler

if TYPE_CHECKING:
    from collections.abc import Callable


class Color(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: int = 0


class Job(msgspec.Struct):
    name: str
    points: list[Point] = []


class Model(pydantic.BaseModel):
    size: int


class Loss(pydantic.BaseModel):
    value: float


def echo(**arguments: Any) -> dict[str, Any]:
    return arguments


def typed(
    color: Color, day: date, job: Job, models: list[Model], paths: tuple[Path, ...], factor: float = 1.0
) -> list[Any]:
    assert isinstance(models[0], Model)
    return [color, day, job, models, [path.parent for path in paths], factor]


ARGUMENTS = {
    "color": "red",
    "day": "2026-11-21",
    "job": {"name": "a", "points": [{"x": 1, "y": 2}]},
    "models": [{"size": 3}],
    "paths": ["a/b"],
}


def test_arguments_are_read_as_their_annotations_say_and_results_become_json() -> None:
    done = run_handler(typed, ARGUMENTS)

    assert done.status == "complete"
    assert done.result == [
        "red",
        "2026-11-21",
        {"name": "a", "points": [{"x": 1, "y": 2}]},
        [{"size": 3}],
        ["a"],
        1.0,
    ]


def one(x: Any) -> Any:  # a name that is not the context's, with an annotation
    return x


def only(given):
    return given.phase


def by_name(a: int, ctx) -> list[Any]:
    return [a, ctx.attempt]


def by_annotation(a: int, where: PhaseContext, /) -> None: ...


def by_place(where: PhaseContext, /, a: int = 2) -> list[Any]:
    return [a, where.item]


def for_checkers(where: "Somewhere.PhaseContext") -> str:  # noqa: F821
    return where.session


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (echo, {"a": 1}, {"a": 1}),
        (one, {"x": [1]}, [1]),
        (only, {}, "phase"),
        (by_name, {"a": 1}, [1, 1]),
        (by_place, {"a": 3}, [3, "i"]),
        (for_checkers, {}, "test"),
        (lambda: 1, {}, 1),
    ],
)
def test_the_context_is_known_by_its_annotation_or_name(function, arguments, result) -> None:
    assert run_handler(function, arguments, item="i").result == result


@pytest.mark.parametrize(
    ("function", "arguments", "error"),
    [
        (typed, {}, "`typed` needs the argument 'color': give it in `x-run.with`"),
        (one, {"x": 1, "y": 2}, "`one` knows no argument 'y': it takes x"),
        (typed, ARGUMENTS | {"factor": "much"}, "argument 'factor': Expected `float`, got `str`"),
        (typed, ARGUMENTS | {"models": [{"size": "x"}]}, "argument 'models': 1 validation error for Model"),
        (object, {}, "the handler returned something that is not JSON: a object is not JSON"),
    ],
)
def test_what_does_not_fit_fails_for_good_and_says_what(function, arguments, error) -> None:
    done = run_handler(function, arguments)

    assert done.status == "failed"
    assert done.error is not None
    assert done.error.startswith(error)
    assert not done.retryable


NAN = float("nan")


@pytest.mark.parametrize(
    ("result", "place"),
    [
        (NAN, "the result"),
        ({"loss": float("inf")}, "`loss`"),
        ({"runs": [{"loss": 1.5}, {"loss": -float("inf"), "note": None}]}, "`runs[1].loss`"),
        ([msgspec.Raw(b"null"), Job("a", [Point(NAN)])], "`[1].points[0].x`"),
        (Loss(value=NAN), "`value`"),
        ({1: NAN}, "`1`"),
    ],
)
def test_a_result_with_a_number_that_json_does_not_have_fails_and_says_where(result, place) -> None:
    done = run_handler(lambda: result)

    assert done.status == "failed"
    assert done.error is not None
    assert f"{place} is " in done.error
    assert "JSON has no such number" in done.error
    assert not done.retryable


def test_a_result_may_have_nothing_in_it() -> None:
    assert run_handler(lambda: {"a": None, "b": [None, 1.5]}).result == {"a": None, "b": [None, 1.5]}


class Opaque:
    pass


def of_opaque(thing: Opaque) -> None: ...


def of_unknown(x: "Nowhere") -> None: ...  # noqa: F821


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (of_unknown, "the annotation of 'x' cannot be read"),
        (by_annotation, "argument 'a' can only be given by its place"),
    ],
)
def test_functions_that_no_manifest_can_call_are_refused_at_once(
    function: "Callable[..., Any]", reason
) -> None:
    with pytest.raises(HandlerUnusable, match=reason):
        run_handler(function)


def test_a_type_that_json_knows_nothing_of_fails_with_its_name() -> None:
    done = run_handler(of_opaque, {"thing": 1})

    assert done.error == "argument 'thing': a Opaque is nothing that JSON can become"
    assert not done.retryable


async def test_logs_heartbeats_failures_and_timeouts_are_told() -> None:
    async def slow(ctx: PhaseContext) -> None:
        ctx.log("one\ntwo")
        ctx.heartbeat({"row": 1})
        ctx.heartbeat()
        await asyncio.sleep(60)

    def refuses(ctx: PhaseContext) -> None:
        raise PermanentFailure("no such row")

    late = await call_handler(slow, timeout=0.05)
    refused = await call_handler(refuses)

    assert (late.status, late.error, late.log) == ("failed", "timed out", ["one", "two"])
    assert late.heartbeats == [{"row": 1}, None]
    assert (refused.error, refused.retryable) == ("no such row", False)
