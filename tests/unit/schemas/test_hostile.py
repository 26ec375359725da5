"""Input that was made to do harm is refused with a problem, in bounded time."""

import json
import sys
import time

import pytest

from planter_schemas import load_manifest, render_problems

SECONDS_MAX = 10
"""On a machine without load each takes well under a second; a test must not fail because another one runs."""


def yaml_bomb() -> str:
    """Nine levels of nine aliases: 3,486,784,401 values."""
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} [{','.join(['*' + before] * 9)}]")
    return "\n".join(lines)


def deep_aliases() -> str:
    """Text of depth 1 that is 200 deep when expanded."""
    return "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 200))


CASES = {
    "a YAML bomb": (yaml_bomb(), "PLT-1014"),
    "an alias loop": ("a: &a [*a]", "PLT-1013"),
    "many aliases": ("a: &a x\nb: [" + "*a, " * 1100 + "]", "PLT-1014"),
    "aliases that nest": (deep_aliases(), "PLT-1009"),
    "open JSON brackets": ("[" * 1_000_000, "PLT-1009"),
    "closed JSON brackets": ("[" * 100_000 + "]" * 100_000, "PLT-1009"),
    "JSON brackets below the parser's limit": (
        '{"id": "a", "spec": {"x-a": ' + "[" * 400 + "]" * 400 + "}}",
        "PLT-1009",
    ),
    "brackets under an unknown key": (
        '{"id": "a", "spec": {"a": ' + "[" * 600 + "]" * 600 + "}}",
        "PLT-1102",
    ),
    "YAML brackets": ("a: " + "[" * 100_000, "PLT-1009"),
    "YAML indentation": ("".join(f"{' ' * i}a:\n" for i in range(2000)), "PLT-1009"),
    "a giant integer": ('{"id": "a", "spec": {"x-a": ' + "9" * 5000 + "}}", "PLT-1010"),
    "a giant key": ('{"' + "k" * 5_000_000 + '": 1}', "PLT-1101"),
    "a giant unknown key": ('{"id": "a", "spec": {}, "' + "k" * 5_000_000 + '": 1}', "PLT-1102"),
    "a giant line": ("[" + " " * 5_000_000 + "x]", "PLT-1006"),
    "millions of JSON values": ("[" + "1," * 6_000_000 + "1]", "PLT-1011"),
    "millions of YAML values": ("- 1\n" * 2_000_000, "PLT-1011"),
    "too many phases": (json.dumps([{"id": "a", "spec": {}}] * 100_001), "PLT-1112"),
    "too much JSON": ("[" + " " * (64 * 1024 * 1024) + "]", "PLT-1003"),
    "too much YAML": ("# " + "x" * (16 * 1024 * 1024) + "\n[]", "PLT-1003"),
    "many unknown keys": (json.dumps({"id": "a", "spec": {f"k{i}": 1 for i in range(20_000)}}), "PLT-1102"),
    "many repeated keys": ("{" + ",".join(f'"k{i}":1,"k{i}":2' for i in range(20_000)) + "}", "PLT-1008"),
    "many wrong waits": (
        json.dumps([{"id": f"p{i:04x}q", "spec": {"waitFor": [f"q{i:04x}p"]}} for i in range(5_000)]),
        None,
    ),
    "terminal escapes": ('[{"id": "a\\u001b[2J", "spec": {}}]', "PLT-1110"),
}


@pytest.mark.parametrize(("text", "code"), CASES.values(), ids=CASES.keys())
def test_harmful_input_is_a_problem(text: str, code: str | None) -> None:
    started = time.perf_counter()
    loaded = load_manifest(text)
    rendered = render_problems(loaded.problems, text=loaded.texts)
    seconds = time.perf_counter() - started

    assert code is None or code in {problem.code for problem in loaded.problems}
    assert code is None or loaded.manifest is None
    assert all(len(line) < 400 and line.isprintable() for line in rendered.split("\n"))
    assert seconds < SECONDS_MAX


def test_the_readers_need_no_stack() -> None:
    """A deep stack of the caller is the caller's affair; a flat manifest needs a few frames only."""
    text = json.dumps([{"id": "a", "spec": {"x-a": [[[[[[[[[[1]]]]]]]]]]}}])

    def at_depth(frames: int) -> object:
        return load_manifest(text).manifest if frames == 0 else at_depth(frames - 1)

    load_manifest(text)
    assert at_depth(sys.getrecursionlimit() - 250) is not None


def test_ten_thousand_phases_load_quickly() -> None:
    """Half a second on the slow machine where this was written; the limit allows for a busier one."""
    phases = [
        {
            "kind": "Phase",
            "id": f"t{i:05d}",
            "spec": {
                "description": f"Do number {i}",
                "selector": {"matchLabels": {"phase": "work"}},
                "waitFor": {"phases": [f"t{i - 1:05d}"] if i else []},
                "retry": {"maxAttempts": 3},
            },
        }
        for i in range(10_000)
    ]
    text = json.dumps(phases)

    started = time.perf_counter()
    loaded = load_manifest(text)
    seconds = time.perf_counter() - started

    print(f"{len(text):,} characters in {seconds:.3f} s")
    assert loaded.problems == ()
    assert seconds < 5
