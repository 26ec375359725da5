"""The work: who is alive to do it, what waits, and what could not be read."""

from planter.doctor.facts import Absence, Consumer, Facts
from planter.doctor.findings import Finding, failure, ok, warning
from planter_protocol import assets

PENDING_MANY = 10_000
"""Inputs that wait in one partition although planners run."""
ACK_PENDING_SHARE = 0.5
"""Of what a consumer lets be under way."""


def check_planners(facts: Facts) -> tuple[Finding, ...]:
    """Somebody takes inputs, and soon enough."""
    check = "planners"
    if not facts.visited:
        return ()
    waiting = {name: found.pending for name, found in _consumers(facts).items() if found.pending > 0}
    total = sum(waiting.values())
    if not facts.planners:
        remedy = f"planter serve --nats {facts.server.url}"
        if total:
            text = f"none is running, and {_inputs(total)} in {_partitions(len(waiting))}"
            return (failure(check, text, "nobody takes inputs", remedy),)
        cause = "inputs are stored, and nobody takes them"
        return (warning(check, "none is running", cause, remedy),)
    found: list[Finding] = []
    slow = max(waiting.values(), default=0)
    if slow >= PENDING_MANY:
        text = f"{_inputs(total)}, {slow:,} of them in one partition"
        cause = "planners do not keep up, or none owns that partition"
        found.append(
            warning(check, text, cause, "run this again; start another planner if it does not shrink")
        )
    stuck = [name for name, consumer in _consumers(facts).items() if _is_stuck(consumer)]
    if stuck:
        consumer = _consumers(facts)[stuck[0]]
        text = f"{consumer.ack_pending:,} inputs of {stuck[0]} are given out and not acknowledged"
        cause = "a planner holds them: it stands still, or its appends to the journal are not confirmed"
        remedy = (
            "look at the planners' logs for `journal.` and `nats.error`; restart the one that stands still"
        )
        found.append(warning(check, text, cause, remedy))
    if found:
        return tuple(found)
    return (ok(check, f"{len(facts.planners)} running: {', '.join(facts.planners)}"),)


def check_runtimes(facts: Facts) -> tuple[Finding, ...]:
    """Somebody executes phases."""
    check = "runtimes"
    if not facts.visited:
        return ()
    ready = [beat for beat in facts.runtimes if beat.state == "ready"]
    if not ready:
        draining = ", ".join(beat.runtime_id for beat in facts.runtimes)
        text = f"only draining ones: {draining}" if draining else "none is running"
        remedy = f"planter runtime --nats {facts.server.url}"
        return (warning(check, text, "phases stay ready until a runtime takes them", remedy),)
    slots = sum(beat.slots for beat in ready)
    return (
        ok(check, f"{len(ready)} running with {slots} slots: {', '.join(beat.runtime_id for beat in ready)}"),
    )


def check_dead_letters(facts: Facts) -> tuple[Finding, ...]:
    """Nothing came in that could not be read."""
    stream = facts.found(assets.DEAD_LETTERS)
    if stream is None:
        return ()
    if stream.messages == 0:
        return (ok("dead letters", "none"),)
    newest = facts.dead_letter
    cause = f"newest, on {newest.subject}: {newest.reason}" if newest else "inputs could not be read"
    number = f"{stream.messages:,} {'input' if stream.messages == 1 else 'inputs'}"
    remedy = f"nats stream view {assets.DEAD_LETTERS}"
    return (warning("dead letters", f"{number} could not be read", cause, remedy),)


def check_notifications(facts: Facts) -> tuple[Finding, ...]:
    """What handlers want sent is on its way."""
    check = "notifications"
    if facts.found(assets.NOTIFICATIONS) is None or isinstance(facts.notifiers, Absence):
        return ()
    found: list[Finding] = []
    for name, consumer in sorted(facts.notifiers.items()):
        channel, waiting = name.removeprefix("notifier-"), consumer.pending + consumer.ack_pending
        if waiting and not facts.planners:
            remedy = f"planter serve --nats {facts.server.url}"
            found.append(
                warning(check, f"{waiting:,} by {channel} not sent", "no planner is running", remedy)
            )
        elif consumer.redelivered:
            text = f"{waiting:,} by {channel} not sent yet, {consumer.redelivered:,} of them tried before"
            cause = (
                "the server behind it did not answer, or refused for now; they are tried again with pauses"
            )
            found.append(warning(check, text, cause, "look at the planners' logs for `notification.`"))
    return tuple(found) or (ok(check, "none waits for another try"),)


def check_latency(facts: Facts) -> tuple[Finding, ...]:
    """How long a publish to the inputs takes there and back."""
    if facts.publish_ms is None:
        return ()
    return (ok("latency", f"{facts.publish_ms:.1f} ms for an input there and back, without storing it"),)


def _consumers(facts: Facts) -> dict[str, Consumer]:
    return {} if isinstance(facts.consumers, Absence) else facts.consumers


def _is_stuck(consumer: Consumer) -> bool:
    limit = int(consumer.config.get("max_ack_pending", 0))
    return limit > 0 and consumer.ack_pending >= limit * ACK_PENDING_SHARE


def _inputs(number: int) -> str:
    return f"{number:,} {'input waits' if number == 1 else 'inputs wait'}"


def _partitions(number: int) -> str:
    return f"{number} {'partition' if number == 1 else 'partitions'}"
