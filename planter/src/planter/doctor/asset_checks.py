"""Every stream, bucket and consumer is there, and is what this version expects."""

from collections.abc import Iterable, Mapping
from typing import Any

from planter.doctor.facts import Absence, Consumer, Facts
from planter.doctor.findings import Finding, failure, ok, warning
from planter.doctor.wanted import (
    CONSUMER_RULES,
    STREAM_RULES,
    Difference,
    differences,
    shown,
    wanted_consumers,
    wanted_streams,
)
from planter_protocol import assets

_MAKE = "start a planner: `planter serve --nats {url}` makes what is missing"
_LISTED_MAX = 3


def check_streams(facts: Facts) -> tuple[Finding, ...]:
    """Streams and the ones behind buckets."""
    check = "streams"
    if isinstance(facts.account, Absence) and facts.account is not Absence.DENIED:
        return ()  # the check of JetStream has said it
    make = _MAKE.format(url=facts.server.url)
    if not facts.visited:
        cause = "none of its streams is there, so nothing can be submitted"
        return (failure(check, "no planner has ever run on this server", cause, make),)
    found: list[Finding] = []
    for names, absence in _absent(facts):
        text = f"{', '.join(names)}: {_ABSENT[absence]}"
        if absence is Absence.MISSING:
            found.append(failure(check, text, "a planner makes all of them when it starts", make))
        elif absence is Absence.DENIED:
            cause = "this user may not publish $JS.API.STREAM.INFO.*, so its configuration is unknown"
            found.append(warning(check, text, cause, "ask as a planner's user"))
        else:
            cause = "a stream without a leader does not answer"
            remedy = "look at the servers' logs; more than half of its servers must be up"
            found.append(failure(check, text, cause, remedy))
    wanted = wanted_streams()
    for name, config in wanted.items():
        stream = facts.found(name)
        if stream is not None:
            drifted = differences(STREAM_RULES, name, stream.config, config)
            edit = f"nats stream edit {name}"
            found += [_drift(check, name, edit, difference, _RENEW_STREAM) for difference in drifted]
    return tuple(found) or (ok(check, f"{len(wanted)} streams and buckets, as this version makes them"),)


def check_consumers(facts: Facts) -> tuple[Finding, ...]:
    """The consumers by which planners take inputs."""
    check = "consumers"
    if facts.found(assets.IN) is None or isinstance(facts.consumers, Absence):
        return ()
    wanted, there = wanted_consumers(), facts.consumers
    found: list[Finding] = []
    missing = [name for name in wanted if name not in there]
    if missing:
        cause = "inputs of their partitions wait, and no planner can take them"
        remedy = _MAKE.format(url=facts.server.url)
        found.append(failure(check, f"{_listed(missing)}: missing", cause, remedy))
    for names, difference in _grouped(wanted, there):
        edit = f"nats consumer edit {assets.IN} {names[0]}"
        found.append(_drift(check, _listed(names), edit, difference, _RENEW_CONSUMER))
    paused = [name for name in wanted if name in there and there[name].paused]
    if paused:
        remedy = f"nats consumer resume {assets.IN} {paused[0]}"
        cause = "inputs of their partitions wait until the pause ends"
        found.append(warning(check, f"{_listed(paused)}: paused", cause, remedy))
    return tuple(found) or (ok(check, f"{len(wanted)} consumers, as this version makes them"),)


_ABSENT = {
    Absence.MISSING: "missing",
    Absence.DENIED: "not to be seen",
    Absence.SILENT: "no answer",
    Absence.UNSERVED: "no answer",
    Absence.REFUSED: "no answer",
}
_RENEW_STREAM = (
    "NATS cannot change this in place: let the sessions end, `nats stream rm {name}` (its content is lost), "
    "then start a planner, which makes it anew"
)
_RENEW_CONSUMER = (
    "`nats consumer rm PLANTER_IN {name}`, then restart a planner, which makes it anew; inputs that are "
    "given again are recognised"
)


def _absent(facts: Facts) -> Iterable[tuple[list[str], Absence]]:
    """Streams that are not to be seen, together where the reason is the same."""
    for absence in Absence:
        names = [name for name, stream in facts.streams.items() if stream is absence]
        if names:
            yield names, absence


def _drift(check: str, name: str, edit: str, difference: Difference, renew: str) -> Finding:
    rule = difference.rule
    found, wanted = shown(rule.field, difference.found), shown(rule.field, difference.wanted)
    flags = rule.edit(difference.wanted) if rule.edit else None
    remedy = f"{edit} {flags}" if flags else renew.format(name=edit.rpartition(" ")[2])
    say = failure if difference.fails else warning
    return say(check, f"{name}: `{rule.field}` is {found}, expected {wanted}", rule.cause, remedy)


def _grouped(
    wanted: Mapping[str, Mapping[str, Any]], there: Mapping[str, Consumer]
) -> Iterable[tuple[list[str], Difference]]:
    """Differences of consumers, together where they are the same."""
    groups: dict[tuple[str, str], tuple[list[str], Difference]] = {}
    for name, config in wanted.items():
        if name not in there:
            continue
        for difference in differences(CONSUMER_RULES, assets.IN, there[name].config, config):
            key = (difference.rule.field, repr(difference.found) + repr(difference.wanted))
            groups.setdefault(key, ([], difference))[0].append(name)
    return groups.values()


def _listed(names: list[str]) -> str:
    shown_names = ", ".join(names[:_LISTED_MAX])
    return shown_names if len(names) <= _LISTED_MAX else f"{shown_names} and {len(names) - _LISTED_MAX} more"
