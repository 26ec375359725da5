"""Compiling plain JSON manifests quickly: those that programs write, in canonical spelling, without faults.

The long way (``planter_schemas``, then ``compile_manifest``) knows every dialect and explains every fault, at
seventy microseconds a phase. This one takes ten, knows a part of the language and nothing about faults, and
leaves whatever it does not know, or might not like, to the long way by returning None. What it returns is
what the long way would return, which a test holds it to (``tests/unit/compile/test_plain.py``).
"""

import re
from hashlib import sha256
from typing import Literal

import msgspec

from planter.compile.cycles import is_acyclic
from planter.core.plan import PhaseSpec, Plan

_BYTES_MAX = 64 * 1024 * 1024
_PHASES_MAX = 100_000
_PARTS_MAX = 1_000_000
_ID_LENGTH_MAX = 128
_ATTEMPTS_MAX = 1_000
_PRIORITY_MAX = 1_000
_NOT_PLAIN = (b"\\u", b"${", b"\0")
"""Escapes that may hide half a character, variables, and what no string may hold."""
_ODD_COLON = re.compile(rb'"[ \t\r\n]+:')
_KEY_END = b'":'
_UNSET = msgspec.UNSET


class _Strict(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename="camel"):
    pass


class _Selector(_Strict):
    match_labels: dict[str, str] | msgspec.UnsetType = _UNSET


class _Wait(_Strict):
    phases: list[str] | msgspec.UnsetType = _UNSET


class _Retry(_Strict):
    max_attempts: int | msgspec.UnsetType = _UNSET


class _Run(_Strict):
    noop: dict[str, int] | msgspec.UnsetType = _UNSET
    exec: list[str] | msgspec.UnsetType = _UNSET
    shell: str | msgspec.UnsetType = _UNSET
    python: str | msgspec.UnsetType = _UNSET
    env: dict[str, str] | msgspec.UnsetType = _UNSET
    cwd: str | msgspec.UnsetType = _UNSET


class _Spec(_Strict):
    description: str | msgspec.UnsetType = _UNSET
    selector: _Selector | msgspec.UnsetType = _UNSET
    instance_mode: Literal["immediate", "onUse"] | msgspec.UnsetType = _UNSET
    wait_for: _Wait | msgspec.UnsetType = _UNSET
    retry: _Retry | msgspec.UnsetType = _UNSET
    run: _Run | msgspec.UnsetType = msgspec.field(default=_UNSET, name="x-run")
    priority: int | msgspec.UnsetType = msgspec.field(default=_UNSET, name="x-priority")


class _Phase(_Strict):
    id: str
    spec: _Spec
    kind: Literal["Phase"] | msgspec.UnsetType = _UNSET


class _NotPlain(Exception):
    """Something that the long way has to look at."""


_decoder = msgspec.json.Decoder(list[_Phase])
_encoder = msgspec.json.Encoder(order="deterministic")


def compile_plain(data: bytes) -> Plan | None:
    """The plan of a plain manifest; None when the long way has to decide.

    Args:
        data: a JSON list of phases.
    """
    if len(data) > _BYTES_MAX or any(text in data for text in _NOT_PLAIN) or _ODD_COLON.search(data):
        return None
    try:
        phases = _decoder.decode(data)
        specs, keys, is_ordered = _specs(phases)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NotPlain):
        return None
    # A key that stands twice in an object is one key too many (the decoder takes the last one in silence).
    if keys != data.count(_KEY_END):
        return None
    if not is_ordered and not is_acyclic({spec.id: spec.needs for spec in specs}):
        return None
    digest = sha256(b"".join(spec.digest.encode() for spec in specs)).hexdigest()
    return Plan(digest=f"sha256:{digest}", phases=specs)


def _specs(phases: list[_Phase]) -> tuple[tuple[PhaseSpec, ...], int, bool]:
    """The phases, how many keys their text has, and whether each stands after all that it waits for."""
    ids = {phase.id for phase in phases}
    if len(phases) > _PHASES_MAX or len(ids) != len(phases):
        raise _NotPlain
    specs: list[PhaseSpec] = []
    keys = parts = 0
    before: set[str] = set()
    is_ordered = True
    for phase in phases:
        spec, own_keys = _spec(phase, ids)
        specs.append(spec)
        keys += own_keys
        parts += own_keys + len(spec.needs)
        is_ordered = is_ordered and before.issuperset(spec.needs)
        before.add(spec.id)
        if parts > _PARTS_MAX:
            raise _NotPlain
    return tuple(specs), keys, is_ordered


def _spec(phase: _Phase, ids: set[str]) -> tuple[PhaseSpec, int]:
    name, given = phase.id, phase.spec
    if not 0 < len(name) <= _ID_LENGTH_MAX or not name.isprintable() or name.strip() != name:
        raise _NotPlain
    keys = 2 + (phase.kind is not _UNSET)
    fields: dict[str, object] = {}
    extensions: dict[str, object] = {}
    if given.description is not _UNSET:
        keys += 1
        fields["description"] = given.description or None
    if given.selector is not _UNSET:
        keys += 1
        if given.selector.match_labels is not _UNSET:
            labels = given.selector.match_labels
            keys += 1 + len(labels)
            if "" in labels:
                raise _NotPlain
            fields["labels"] = labels
    if given.instance_mode is not _UNSET:
        keys += 1
        fields["on_use"] = given.instance_mode == "onUse"
    if given.wait_for is not _UNSET:
        keys += 1
        if given.wait_for.phases is not _UNSET:
            keys += 1
            fields["needs"] = _needs(name, given.wait_for.phases, ids)
    if given.retry is not _UNSET:
        keys += 1
        if given.retry.max_attempts is not _UNSET:
            keys += 1
            if not 1 <= given.retry.max_attempts <= _ATTEMPTS_MAX:
                raise _NotPlain
            fields["max_attempts"] = given.retry.max_attempts
    if given.run is not _UNSET:
        kind, run, run_keys = _run(given.run)
        keys += 1 + run_keys
        fields["kind"], fields["run"] = kind, msgspec.Raw(msgspec.json.encode(run))
        extensions["x-run"] = run
    if given.priority is not _UNSET:
        keys += 1
        if abs(given.priority) > _PRIORITY_MAX:
            raise _NotPlain
        fields["priority"] = extensions["x-priority"] = given.priority
    spec = PhaseSpec(id=name, digest="", **fields)  # pyright: ignore[reportArgumentType]
    digest = sha256(_encoder.encode([spec, extensions])).hexdigest()
    msgspec.structs.force_setattr(spec, "digest", digest)  # ours alone until it is returned
    return spec, keys


def _needs(name: str, given: list[str], ids: set[str]) -> tuple[str, ...]:
    """An unknown name may be a slip of the pen, or external: that is not decided here."""
    if name in given or not ids.issuperset(given) or len(set(given)) != len(given):
        raise _NotPlain
    return tuple(given)


def _run(given: _Run) -> tuple[str, dict[str, object], int]:
    """The kind, the canonical ``x-run``, and how many keys its text has."""
    run: dict[str, object] = {}
    if given.noop is not _UNSET:
        if given.noop:
            raise _NotPlain
        run["noop"] = {}
    if given.exec is not _UNSET:
        if not given.exec or not given.exec[0]:
            raise _NotPlain
        run["exec"] = given.exec
    if given.shell is not _UNSET:
        if not given.shell:
            raise _NotPlain
        run["shell"] = given.shell
    if given.python is not _UNSET:
        from planter_schemas.runs import PYTHON_TARGET  # noqa: PLC0415  (a fifth of a second, seldom needed)

        if not PYTHON_TARGET.fullmatch(given.python):
            raise _NotPlain
        run["python"] = given.python
    if len(run) != 1:
        raise _NotPlain
    kind, keys = next(iter(run)), 1
    if given.env is not _UNSET:
        keys += 1 + len(given.env)
        if any(not key or "=" in key for key in given.env):
            raise _NotPlain
        if given.env:
            run["env"] = given.env
    if given.cwd is not _UNSET:
        keys += 1
        if not given.cwd:
            raise _NotPlain
        run["cwd"] = given.cwd
    return kind, run, keys
