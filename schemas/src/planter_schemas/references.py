"""Checks between phases: unique ids, waits that lead somewhere, a target that exists.

Circles are the planner's business, which builds the graph anyway.
"""

import re
from collections import defaultdict
from difflib import SequenceMatcher

from planter_schemas import limits
from planter_schemas.findings import Finding, Findings
from planter_schemas.forms import Parts
from planter_schemas.phases import Draft
from planter_schemas.problems import Path, shown

_NUMBER = re.compile(r"[0-9]+")
_SIMILAR = 0.75
_SIMILAR_SHORT = 0.85
"""For names of up to four characters, where one letter is a quarter of the name: `lint` is not `link`."""
_CANDIDATES_MAX = 200
_COMPARISONS_MAX = 40_000
"""Over all names of a manifest: about half a second. Beyond, only case and numbers are compared."""


def check_references(findings: Findings, parts: Parts, *, strict: bool) -> dict[str, Draft]:
    """Check the ids of all drafts and set ``external`` of each; the drafts by id."""
    by_id = _unique(findings, parts.drafts)
    lookalikes = Lookalikes(list(by_id))
    for draft in parts.drafts:
        if findings.is_full:
            break
        _check_waits(findings, draft)
        names = draft.fields.get("wait_for") or ()
        unknown = [name for name in names if name not in by_id]
        if unknown and parts.is_complete:
            draft.fields["external"] = tuple(dict.fromkeys(unknown))
            _report_unknown(findings, draft, by_id, lookalikes, strict=strict)
    target = parts.target_phase
    if target is not None and target not in by_id and parts.is_complete:
        hint = _did_you_mean(lookalikes.of(target))
        message = f"target phase {shown(target)} does not exist"
        findings.add(
            Finding(parts.target_place, "PLT-1206", message, label="no phase with this id", hint=hint)
        )
    return by_id


def _unique(findings: Findings, drafts: list[Draft]) -> dict[str, Draft]:
    by_id: dict[str, Draft] = {}
    for draft in drafts:
        if draft.id is None:
            continue
        first = by_id.setdefault(draft.id, draft)
        if first is not draft:
            findings.add(
                Finding(
                    draft.place,
                    "PLT-1203",
                    f"phase id {shown(draft.id)} is used twice",
                    label="used again",
                    related=first.place,
                    related_text="first used at",
                )
            )
    return by_id


def _check_waits(findings: Findings, draft: Draft) -> None:
    names: tuple[str, ...] = draft.fields.get("wait_for") or ()
    if len(set(names)) == len(names) and draft.id not in names:
        return
    seen: dict[str, Path] = {}
    for index, name in enumerate(names):
        path = draft.path_of_wait(index)
        if name in seen:
            findings.add(
                Finding(
                    path,
                    "PLT-1207",
                    f"{shown(name)} is waited for twice",
                    label="given again",
                    severity="warning",
                    related=seen[name],
                    related_text="first given at",
                )
            )
        elif name == draft.id:
            message = f"phase {shown(name)} waits for itself"
            hint = "it could never start: remove this wait"
            findings.add(Finding(path, "PLT-1205", message, label="its own id", hint=hint))
        seen.setdefault(name, path)


def _report_unknown(
    findings: Findings, draft: Draft, by_id: dict[str, Draft], lookalikes: "Lookalikes", *, strict: bool
) -> None:
    reported: set[str] = set()
    for index, name in enumerate(draft.fields["wait_for"]):
        if name in by_id or name in reported:
            continue
        reported.add(name)
        path, who = draft.path_of_wait(index), f"phase {shown(draft.id or '')}"
        close = lookalikes.of(name)
        if close is not None:
            findings.add(
                Finding(
                    path,
                    "PLT-1201",
                    f"{who} waits for unknown phase {shown(name)}",
                    label="no phase with this id",
                    hint=_did_you_mean(close),
                    related=by_id[close].place,
                    related_text=f"{shown(close)} stands at",
                )
            )
        else:
            findings.add(
                Finding(
                    path,
                    "PLT-1202",
                    f"{who} waits for {shown(name)}, which is external: no phase here has this id",
                    label="external",
                    hint="it waits until the session knows this id as complete",
                    severity="error" if strict else "warning",
                )
            )


def _did_you_mean(close: str | None) -> str | None:
    return None if close is None else f"did you mean {shown(close)}?"


class Lookalikes:
    """Finds the id that a wrong name was most likely meant to be; its tables are built on first need."""

    def __init__(self, ids: list[str]) -> None:
        self._ids = ids
        self._by_shape: dict[str, str] | None = None
        self._by_pair: dict[str, list[str]] = {}
        self._known: dict[str, str | None] = {}
        self._comparisons_left = _COMPARISONS_MAX

    def of(self, name: str) -> str | None:
        """An id that differs in case or numbers only, or by a letter or two; None without such an id."""
        if name not in self._known:
            self._known[name] = self._search(name)
        return self._known[name]

    def _search(self, name: str) -> str | None:
        if self._by_shape is None:
            self._by_shape = {_shape(each): each for each in reversed(self._ids)}
            pairs: dict[str, list[str]] = defaultdict(list)
            for each in self._ids:
                for pair in _pairs(each):
                    pairs[pair].append(each)
            self._by_pair = dict(pairs)
        return self._most_similar(name) or self._by_shape.get(_shape(name))

    def _most_similar(self, name: str) -> str | None:
        """The best of those ids that share a rare pair of letters with the name."""
        if self._comparisons_left <= 0 or len(name) > 2 * limits.PHASE_ID_LENGTH_MAX:
            return None
        candidates: dict[str, None] = {}
        for ids in sorted((self._by_pair.get(pair, []) for pair in _pairs(name)), key=len):
            candidates.update(dict.fromkeys(ids[: _CANDIDATES_MAX - len(candidates)]))
            if len(candidates) >= _CANDIDATES_MAX:
                break
        best, best_ratio = None, 0.0
        matcher = SequenceMatcher(None, autojunk=False)
        matcher.set_seq2(name.lower())
        for candidate in candidates:
            needed = max(_SIMILAR if min(len(name), len(candidate)) > 4 else _SIMILAR_SHORT, best_ratio)
            matcher.set_seq1(candidate.lower())
            if matcher.real_quick_ratio() < needed or matcher.quick_ratio() < needed:
                continue
            ratio = matcher.ratio()
            if ratio >= needed and ratio > best_ratio:
                best, best_ratio = candidate, ratio
        self._comparisons_left -= len(candidates)
        return best


def _shape(name: str) -> str:
    """The name without case and with every number as one digit."""
    return _NUMBER.sub("0", name.lower())


def _pairs(name: str) -> set[str]:
    lowered = f"^{name.lower()[:128]}$"
    return {lowered[i : i + 2] for i in range(len(lowered) - 1)}
