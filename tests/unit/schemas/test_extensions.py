"""The extensions that Planter understands: what a phase runs, how often, how long, how soon, and where."""

import pytest

from planter_schemas import Backoff, Phase, Run, load_manifest
from planter_schemas.manifest import RunLimits


def load(spec: str) -> Phase:
    """The phase with this spec."""
    loaded = load_manifest(f"id: a\nspec: {{{spec}}}")
    assert loaded.errors == ()
    assert loaded.manifest is not None
    return loaded.manifest.phases[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python: 'site.build:main'", Run(python="site.build:main")),
        ("exec: [make, '']", Run(exec=("make", ""))),
        ("shell: 'a | b'", Run(shell="a | b")),
        ("http: {url: 'https://h/x'}", Run(http={"url": "https://h/x"})),
        ("with: {a: 1}, timeout: 3s", Run(with_={"a": 1}, timeout_ms=3_000)),
        ("shell: a, secrets: {A: b/c}", Run(shell="a", secrets={"A": "b/c"})),
        (
            "container: {image: 'python:3.12', command: [a], mount: /work, pull: never, read_only: true}",
            Run(
                container={
                    "image": "python:3.12",
                    "command": ["a"],
                    "mount": "/work",
                    "pull": "never",
                    "readOnly": True,
                }
            ),
        ),
        ("shell: a, isolation: strict", Run(shell="a", isolation="strict")),
        ("wait: {for: 600}", Run(wait={"for": "10m"})),
        ("wait: {until: 2026-12-24T18:00:00+01:00}", Run(wait={"until": "2026-12-24T17:00:00Z"})),
        ("wait: {until: '2026-12-24T18:00:00.250Z'}", Run(wait={"until": "2026-12-24T18:00:00.250Z"})),
        ("wait: {until: '${{ phases.a.result.at }}'}", Run(wait={"until": "${{ phases.a.result.at }}"})),
        ("approval: {message: Go?}", Run(approval={"message": "Go?"})),
        (
            "approval: {message: Go?, approvers: [a, b], needed: 2, expires: 24h, on_expiry: approve}",
            Run(
                approval={
                    "message": "Go?",
                    "approvers": ["a", "b"],
                    "needed": 2,
                    "expires": "24h",
                    "onExpiry": "approve",
                }
            ),
        ),
        (
            "shell: a, limits: {memory: 512MiB, cpu: 1500ms, open_files: 64, fileSize: 1kB, output: 10}",
            Run(
                shell="a",
                limits=RunLimits(memory=2**29, cpu_seconds=2, open_files=64, file_size=1000, output=10),
            ),
        ),
        (
            (
                "http: {url: '${{ phases.a.result }}', method: put, follow_redirects: true, "
                "expect: [201, 4xx], headers: {Accept: '*/*'}, query: {page: 2}, body: hi, x-note: kept}"
            ),
            Run(
                http={
                    "url": "${{ phases.a.result }}",
                    "method": "PUT",
                    "followRedirects": True,
                    "expect": ["201", "4xx"],
                    "headers": {"Accept": "*/*"},
                    "query": {"page": "2"},
                    "body": "hi",
                    "x-note": "kept",
                }
            ),
        ),
        ("container: {image: x}", Run(container={"image": "x"})),
        ("noop: {}", Run(noop={})),
        ("noop: ", Run(noop={})),
        ("noop: {}, exec: null", Run(noop={})),
        (
            "shell: a, env: {A: 1, B: false, C: 1.50, D: on}, with: {on: [1]}, cwd: /srv, venv: v, x-y: 1",
            Run(
                shell="a",
                env={"A": "1", "B": "false", "C": "1.50", "D": "on"},
                with_={"on": [1]},
                cwd="/srv",
                venv="v",
                extensions={"x-y": 1},
            ),
        ),
        ("shell: a, artifacts: b.txt", Run(shell="a", artifacts=("b.txt",))),
        ("shell: a, artifacts: [..b, 'x/**/*.csv']", Run(shell="a", artifacts=("..b", "x/**/*.csv"))),
        ("Shell: a, Timeout: 1h", Run(shell="a", timeout_ms=3_600_000)),
    ],
)
def test_a_run_is_one_of_six_kinds(text: str, expected: Run) -> None:
    phase = load(f"x-run: {{{text}}}")

    assert phase.run == expected
    assert phase.extensions == {"x-run": expected.to_json()}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x-run: {}", "PLT-1301"),
        ("x-run: {env: {}}", "PLT-1301"),
        ("x-run: {with: {}, cwd: a}", "PLT-1301"),
        ("x-run: {timeout: 3s}", "PLT-1301"),
        ("x-run: {shell: a, exec: [b]}", "PLT-1301"),
        ("x-run: 'make'", "PLT-1104"),
        ("x-run: {python: build}", "PLT-1302"),
        ("x-run: {python: 'a b:c'}", "PLT-1302"),
        ("x-run: {exec: make}", "PLT-1302"),
        ("x-run: {exec: []}", "PLT-1302"),
        ("x-run: {exec: ['']}", "PLT-1302"),
        ('x-run: {exec: [a, "b\\0"]}', "PLT-1302"),
        ("x-run: {exec: [a, 1]}", "PLT-1104"),
        ("x-run: {shell: ''}", "PLT-1116"),
        ("x-run: {shell: [a]}", "PLT-1104"),
        ("x-run: {http: url}", "PLT-1104"),
        ("x-run: {container: image}", "PLT-1104"),
        ("x-run: {container: {command: [a]}}", "PLT-1321"),
        ("x-run: {shell: a, artifacts: [a.txt, ../b]}", "PLT-1324"),
        ("x-run: {shell: a, artifacts: /etc/passwd}", "PLT-1324"),
        ("x-run: {shell: a, artifacts: ['a//b']}", "PLT-1324"),
        ("x-run: {noop: {}, artifacts: [a.txt]}", "PLT-1324"),
        ("x-run: {container: {image: 'a b'}}", "PLT-1321"),
        ("x-run: {container: {image: a, command: make}}", "PLT-1321"),
        ("x-run: {container: {image: a, command: []}}", "PLT-1321"),
        ("x-run: {container: {image: a, mount: work}}", "PLT-1321"),
        ("x-run: {container: {image: a, mount: '/a:/b'}}", "PLT-1321"),
        ("x-run: {container: {image: a, pull: sometimes}}", "PLT-1107"),
        ("x-run: {container: {image: a, readOnly: 1}}", "PLT-1104"),
        ("x-run: {container: {image: a, privileged: true}}", "PLT-1102"),
        ("x-run: {http: {method: GET}}", "PLT-1318"),
        ("x-run: {wait: 10m}", "PLT-1104"),
        ("x-run: {wait: {}}", "PLT-1322"),
        ("x-run: {wait: {for: 1s, until: '2026-12-24T18:00:00Z'}}", "PLT-1322"),
        ("x-run: {wait: {for: soon}}", "PLT-1108"),
        ("x-run: {wait: {until: 2026-12-24}}", "PLT-1322"),
        ("x-run: {wait: {until: '2026-12-24T18:00:00'}}", "PLT-1322"),
        ("x-run: {wait: {until: '9999-12-31T23:59:59Z'}}", "PLT-1322"),
        ("x-run: {wait: {until: '0001-01-01T00:00:00+14:00'}}", "PLT-1322"),
        ("x-run: {wait: {for: 1s}, env: {A: b}}", "PLT-1323"),
        ("x-run: {wait: {for: 1s}}, x-outputs: [a]", "PLT-1323"),
        ("x-run: {wait: {for: 1s}}, x-cache: true", "PLT-1323"),
        ("x-run: {approval: {}}", "PLT-1322"),
        ("x-run: {approval: {message: ''}}", "PLT-1116"),
        ("x-run: {approval: {message: a, approvers: []}}", "PLT-1322"),
        ("x-run: {approval: {message: a, approvers: [b, b]}}", "PLT-1322"),
        ("x-run: {approval: {message: a, approvers: [' b']}}", "PLT-1322"),
        ("x-run: {approval: {message: a, needed: 0}}", "PLT-1322"),
        ("x-run: {approval: {message: a, needed: true}}", "PLT-1322"),
        ("x-run: {approval: {message: a, approvers: [b], needed: 2}}", "PLT-1322"),
        ("x-run: {approval: {message: a, expires: 0}}", "PLT-1322"),
        ("x-run: {approval: {message: a, onExpiry: fail}}", "PLT-1322"),
        ("x-run: {approval: {message: a, expires: 1h, onExpiry: retry}}", "PLT-1107"),
        ("x-run: {approval: {message: a, notify: ops}}", "PLT-1104"),
        ("x-run: {approval: {message: a, notify: {pager: ops}}}", "PLT-1102"),
        ("x-run: {approval: {message: a, notify: {slack: '${{ phases.b.result.c }}'}}}", "PLT-1322"),
        ("x-run: {approval: {message: a}}, x-timeout: {heartbeat: 1s}", "PLT-1323"),
        ("x-run: {approval: {message: a}}, x-capabilities: [gpu]", "PLT-1323"),
        ("x-run: {shell: a, isolation: strickt}", "PLT-1107"),
        ("x-run: {shell: a, secrets: {A-B: c}}", "PLT-1320"),
        ("x-run: {shell: a, secrets: {A: 'b c'}}", "PLT-1320"),
        ("x-run: {shell: a, secrets: {A: [b]}}", "PLT-1104"),
        ("x-run: {shell: a, limits: 1GiB}", "PLT-1104"),
        ("x-run: {shell: a, limits: {ram: 1GiB}}", "PLT-1102"),
        ("x-run: {shell: a, limits: {memory: much}}", "PLT-1319"),
        ("x-run: {shell: a, limits: {memory: 0}}", "PLT-1319"),
        ("x-run: {shell: a, limits: {memory: 9999TiB}}", "PLT-1319"),
        ("x-run: {shell: a, limits: {cpu: 0}}", "PLT-1319"),
        ("x-run: {shell: a, limits: {openFiles: 3}}", "PLT-1319"),
        ("x-run: {shell: a, limits: {openFiles: true}}", "PLT-1319"),
        ("x-run: {http: {url: /here}}", "PLT-1318"),
        ("x-run: {http: {url: 'ftp://h/'}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://me:secret@h/'}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/a b'}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h:99999/'}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', method: 'GET /'}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', headers: {'a b': c}}}", "PLT-1318"),
        ('x-run: {http: {url: "https://h/", headers: {a: "b\\r\\nc"}}}', "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', expect: []}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', expect: [20]}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', expect: true}}", "PLT-1318"),
        ("x-run: {http: {url: 'https://h/', followRedirects: 'yes'}}", "PLT-1104"),
        ("x-run: {http: {url: 'https://h/', timeout: 5s}}", "PLT-1102"),
        ("x-run: {noop: {}, withs: {}}", "PLT-1102"),
        ("x-run: {noop: {}, env: {A=B: c}}", "PLT-1116"),
        ("x-run: {noop: {}, env: {A: [b]}}", "PLT-1104"),
        ("x-run: {noop: {}, env: {'': a}}", "PLT-1116"),
        ("x-run: {noop: {}, timeout: 0}", "PLT-1108"),
        ("x-timeout: soon", "PLT-1108"),
        ("x-timeout: 0s", "PLT-1108"),
        ("x-timeout: 5s, x-run: {noop: {}, timeout: 6s}", "PLT-1304"),
        ("x-timeout: {startToClose: 5s}, x-run: {noop: {}, timeout: 6s}", "PLT-1304"),
        ("x-timeout: [5s]", "PLT-1108"),
        ("x-timeout: {startToFinish: 5s}", "PLT-1102"),
        ("x-timeout: {timeout: 5s}", "PLT-1102"),
        ("x-timeout: {startToClose: 5s, start_to_close: 5s}", "PLT-1103"),
        ("x-timeout: {scheduleToStart: soon}", "PLT-1108"),
        ("x-timeout: {ScheduleToClose: 0}", "PLT-1108"),
        ("x-timeout: {heartbeat: -5}", "PLT-1108"),
        ("x-timeout: {heartbeat: {every: 5s}}", "PLT-1108"),
        ("x-retry: 3", "PLT-1104"),
        ("x-retry: {initial: fast}", "PLT-1108"),
        ("x-retry: {factor: 0.5}", "PLT-1303"),
        ("x-retry: {factor: true}", "PLT-1303"),
        ("x-retry: {jitter: 2}", "PLT-1303"),
        ("x-retry: {initial: 2h}", "PLT-1303"),
        ("x-retry: {maxAttempts: 3}, retry: {maxAttempts: 3}", "PLT-1308"),
        ("x-retry: {backoff: 3}", "PLT-1102"),
        ("x-priority: high", "PLT-1305"),
        ("x-priority: 1.5", "PLT-1305"),
        ("x-priority: 1001", "PLT-1305"),
        ("x-capabilities: gpu", "PLT-1306"),
        ("x-capabilities: [1]", "PLT-1104"),
        ("x-capabilities: ['']", "PLT-1116"),
        ("x-run: {noop: {}}, X-Run: {noop: {}}", "PLT-1307"),
    ],
)
def test_what_cannot_be_used_is_refused(text: str, code: str) -> None:
    loaded = load_manifest(f"id: a\nspec: {{{text}}}")

    assert [problem.code for problem in loaded.problems] == [code]
    assert loaded.problems[0].line == 2


def test_defaults_are_those_of_the_design() -> None:
    phase = load("")

    assert phase == Phase(id="a")
    assert (phase.max_attempts, phase.priority, phase.timeout_ms) == (1, 0, None)
    assert phase.retry_backoff == Backoff(initial_ms=1_000, factor=2.0, max_ms=100_000, jitter=0.1)


def test_the_backoff_is_read_with_its_units() -> None:
    phase = load("x-retry: {initial: 500ms, factor: 3, max: 1m, jitter: 0, max_attempts: '7'}")

    assert phase.retry_backoff == Backoff(initial_ms=500, factor=3.0, max_ms=60_000, jitter=0.0)
    assert phase.max_attempts == 7


@pytest.mark.parametrize(
    "text",
    [
        "x-timeout: 90s",
        "x-timeout: '${T:90s}'",
        "x-run: {noop: {}, timeout: 90}",
        "x-timeout: 90000ms, x-run: {noop: {}, timeout: 90s}",
    ],
)
def test_the_timeout_of_an_attempt_has_two_places(text: str) -> None:
    assert load(text).timeout_ms == 90_000


@pytest.mark.parametrize(
    "text",
    [
        "{scheduleToStart: 1m, startToClose: 5m, scheduleToClose: 1h, heartbeat: 30s}",
        "{schedule_to_start: 60, start_to_close: '${T:5m}', schedule_to_close: 60m, heartbeat: 30000ms}",
        "{Heartbeat: 30s, ScheduleToClose: 1h, ScheduleToStart: 1m, StartToClose: 5m}",
    ],
)
def test_the_four_timeouts_are_read_in_three_spellings(text: str) -> None:
    phase = load(f"x-timeout: {text}")

    assert (phase.schedule_to_start_ms, phase.timeout_ms) == (60_000, 300_000)
    assert (phase.schedule_to_close_ms, phase.heartbeat_ms) == (3_600_000, 30_000)
    assert phase.extensions == {
        "x-timeout": {
            "scheduleToStart": "1m",
            "startToClose": "5m",
            "scheduleToClose": "1h",
            "heartbeat": "30s",
        }
    }


def test_one_duration_and_start_to_close_are_one_meaning() -> None:
    assert load("x-timeout: 5m") == load("x-timeout: {startToClose: 300s}")
    assert load("x-timeout: {heartbeat: 5s, x-why: slow}").extensions == {
        "x-timeout": {"heartbeat": "5s", "x-why": "slow"}
    }
    assert load("x-timeout: {}") == load("x-timeout: {heartbeat: null}") == load("")


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        (
            "x-timeout: {startToClose: 5s, heartbeat: 6s}",
            49,
            "`heartbeat` is 6s, longer than `startToClose`, 5s",
        ),
        (
            "x-timeout: {startToClose: 2m, scheduleToClose: 90s}",
            34,
            "`startToClose` is 2m, longer than `scheduleToClose`, 90s",
        ),
        (
            "x-timeout: {scheduleToStart: 2m, scheduleToClose: 1m}",
            37,
            "`scheduleToStart` is 2m, longer than `scheduleToClose`, 1m",
        ),
        (
            "x-timeout: {heartbeat: 2m, scheduleToClose: 1m}",
            31,
            "`heartbeat` is 2m, longer than `scheduleToClose`, 1m",
        ),
        (
            "x-timeout: {heartbeat: 5s}, x-run: {noop: {}, timeout: 4s}",
            31,
            "`heartbeat` is 5s, longer than `startToClose`, 4s",
        ),
    ],
)
def test_a_timeout_that_never_runs_out_is_warned_of(text: str, column: int, message: str) -> None:
    loaded = load_manifest(f"id: a\nspec: {{{text}}}")

    (problem,) = loaded.problems
    assert (problem.severity, problem.code, problem.message) == ("warning", "PLT-1309", message)
    assert (problem.line, problem.column) == (2, column)
    assert loaded.manifest is not None


def test_the_place_of_a_timeout_that_cannot_be_used_is_its_own() -> None:
    loaded = load_manifest("id: a\nspec:\n  x-timeout:\n    startToClose: 5m\n    scheduleToclose: 1h\n")

    (problem,) = loaded.problems
    assert (problem.code, problem.line, problem.column) == ("PLT-1102", 5, 5)
    assert problem.hint == "did you mean `scheduleToClose`?"


def test_unknown_extensions_are_kept_as_they_stand() -> None:
    loaded = load_manifest("id: a\nX-Outer: {B: null}\nspec: {x-in_ner: [1, {waitFor: 2}], x-null: null}")

    assert loaded.manifest is not None
    assert loaded.manifest.phases[0].extensions == {
        "x-in_ner": [1, {"waitFor": 2}],
        "x-null": None,
        "X-Outer": {"B": None},
    }


def test_an_extension_beside_and_inside_of_the_spec_is_refused() -> None:
    loaded = load_manifest("id: a\nx-when: b\nspec: {x-when: c}")

    assert [(each.code, each.hint) for each in loaded.problems] == [("PLT-1307", "first given at 3:8")]
