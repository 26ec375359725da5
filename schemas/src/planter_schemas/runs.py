"""Reading ``x-run``: what a phase runs."""

import re
from typing import Any

from planter_schemas.container_runs import read_container
from planter_schemas.findings import Finding
from planter_schemas.gate_runs import check_settings, read_gate
from planter_schemas.http_runs import read_http
from planter_schemas.manifest import GATE_KINDS, ISOLATION, RUN_KINDS, Run
from planter_schemas.problems import Path, shown, shown_list
from planter_schemas.run_limits import read_limits
from planter_schemas.spelling import Fields, KeyTable, read_fields
from planter_schemas.values import (
    Context,
    choice,
    duration_ms,
    free_object,
    free_value,
    object_of,
    string,
    string_list,
    string_map,
    usable_text,
)

RUN = KeyTable(
    "x-run",
    [*RUN_KINDS, "with", "env", "timeout", "cwd", "venv", "secrets", "limits", "isolation", "artifacts"],
)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", re.ASCII)
ARTIFACT = re.compile(r"(?!\.{1,2}(/|$))[^/\\\x00]+(/(?!\.{1,2}(/|$))[^/\\\x00]+)*")
"""A pattern for files below a folder."""
PYTHON_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def read_run(context: Context, value: object, path: Path) -> Run | None:
    """The ``Run`` of an ``x-run`` object; None after a finding."""
    source = object_of(context, value, path, "x-run")
    if source is None:
        return None
    fields = read_fields(context.findings, source, path, RUN)
    if "with" in fields and fields.written.keys() <= {"with", "timeout"}:
        found: dict[str, Any] = {}
        _read_settings(context, fields, found)
        return Run(**found)  # arguments for the handler that the selector chooses
    kind = _kind(context, fields)
    found = {} if kind is None else {kind: _way(context, fields, kind)}
    if len(source) > 1:
        _read_settings(context, fields, found)
        if kind in GATE_KINDS:
            check_settings(context, kind, fields)
    if kind is None or found[kind] is None:
        return None
    return Run(**found)


def _read_settings(context: Context, fields: Fields, found: dict[str, Any]) -> None:
    if "with" in fields:
        found["with_"] = free_object(context, fields.get("with"), fields.path_of("with"), "`with`") or {}
    if "env" in fields:
        found["env"] = _environment(context, fields)
    if "timeout" in fields:
        place = fields.path_of("timeout")
        found["timeout_ms"] = positive_duration_ms(context, fields.get("timeout"), place, "`x-run.timeout`")
    for folder in ("cwd", "venv"):
        if folder in fields:
            place = fields.path_of(folder)
            found[folder] = usable_text(context, fields.get(folder), place, f"`{folder}`")
    if "secrets" in fields:
        found["secrets"] = _secrets(context, fields)
    if "limits" in fields:
        found["limits"] = read_limits(context, fields.get("limits"), fields.path_of("limits"))
    if "isolation" in fields:
        place = fields.path_of("isolation")
        found["isolation"] = choice(context, fields.get("isolation"), place, "`isolation`", ISOLATION)
    if "artifacts" in fields:
        found["artifacts"] = _artifacts(context, fields)
    found["extensions"] = {
        key: free_value(context, item, (*fields.path, key)) for key, item in fields.extensions.items()
    }


def positive_duration_ms(context: Context, value: object, path: Path, what: str) -> int | None:
    """A duration of at least one millisecond: no attempt can take no time."""
    milliseconds = duration_ms(context, value, path, what)
    if milliseconds == 0:
        hint = "leave it out for no limit"
        context.findings.add(Finding(path, "PLT-1108", f"{what} must be more than 0", hint=hint))
        return None
    return milliseconds


def _kind(context: Context, fields: Fields) -> str | None:
    given = [kind for kind in RUN_KINDS if kind in fields.written and (kind == "noop" or kind in fields)]
    if len(given) == 1:
        return given[0]
    if given:
        message = f"x-run has {len(given)} ways to run: {shown_list(list(given))}"
        place = fields.path_of(given[1])
        finding = Finding(place, "PLT-1301", message, label="second way", hint="keep one", at_key=True)
    else:
        message = "x-run has no way to run"
        hint = f"give one of {shown_list(list(RUN_KINDS))}, or only `with`, arguments for a handler"
        finding = Finding(fields.path, "PLT-1301", message, label="nothing to run", hint=hint)
    context.findings.add(finding)
    return None


def _way(context: Context, fields: Fields, kind: str) -> object:
    value, path = fields.get(kind), fields.path_of(kind)
    if kind == "python":
        return _python_target(context, value, path)
    if kind == "exec":
        return _command(context, value, path)
    if kind == "shell":
        return usable_text(context, value, path, "`shell`")
    if kind == "http":
        return read_http(context, value, path)
    if kind == "container":
        return read_container(context, value, path)
    if kind in GATE_KINDS:
        return read_gate(context, kind, value, path)
    if kind == "noop" and value is None:
        return {}
    return free_object(context, value, path, f"`{kind}`")


def _python_target(context: Context, value: object, path: Path) -> str | None:
    text = string(context, value, path, "`python`")
    if text is None or PYTHON_TARGET.fullmatch(text):
        return text
    message = f"{shown(text)} does not name a Python function"
    hint = "write module:function, such as reports.daily:build"
    context.findings.add(Finding(path, "PLT-1302", message, label="not module:function", hint=hint))
    return None


def _command(context: Context, value: object, path: Path) -> tuple[str, ...] | None:
    if isinstance(value, str):
        message = "`exec` must be a list of strings, found a string"
        hint = "write the program and each argument as an entry, or use `shell` for a script"
        context.findings.add(Finding(path, "PLT-1302", message, label="expected a list", hint=hint))
        return None
    command = string_list(context, value, path, "`exec`")
    if command is None:
        return None
    if not command or not command[0] or any("\0" in part for part in command):
        message = "`exec` holds a NUL character" if command and command[0] else "`exec` names no program"
        hint = "the first entry is the program, the others are its arguments"
        context.findings.add(Finding(path, "PLT-1302", message, label="not a command", hint=hint))
        return None
    return command


def _secrets(context: Context, fields: Fields) -> dict[str, str]:
    path = fields.path_of("secrets")
    secrets = string_map(context, fields.get("secrets"), path, "secrets") or {}
    for variable, name in secrets.items():
        if not VARIABLE.fullmatch(variable) or not SECRET.fullmatch(name):
            message = f"secret {shown(name)} in variable {shown(variable)} is not usable"
            hint = "write VARIABLE: name, such as API_TOKEN: deploy-token; the runtime says where that is"
            context.findings.add(Finding((*path, variable), "PLT-1320", message, hint=hint, at_key=True))
    return secrets


def _artifacts(context: Context, fields: Fields) -> tuple[str, ...]:
    path = fields.path_of("artifacts")
    patterns = string_list(context, fields.get("artifacts"), path, "`artifacts`") or ()
    if not any(kind in fields for kind in ("exec", "shell", "python", "container")):
        message = "`artifacts` are files that a program leaves in its folder, and here is no program"
        hint = "a handler keeps files with `ctx.artifact`"
        context.findings.add(Finding(path, "PLT-1324", message, label="no program", hint=hint, at_key=True))
    for number, pattern in enumerate(patterns):
        if ARTIFACT.fullmatch(pattern) is None:
            message = f"{shown(pattern)} names no files of the work folder"
            hint = "write relative paths such as report.html, out/*.csv, logs/**/*.txt; no `..`"
            context.findings.add(Finding((*path, number), "PLT-1324", message, label="not usable", hint=hint))
    return patterns


def _environment(context: Context, fields: Fields) -> dict[str, str]:
    path = fields.path_of("env")
    environment = string_map(context, fields.get("env"), path, "env") or {}
    for name, text in environment.items():
        if "=" in name or "\0" in name or "\0" in text:
            message = f"environment variable {shown(name)} holds a NUL character or a `=` in its name"
            context.findings.add(Finding((*path, name), "PLT-1116", message, at_key=True))
    return environment
