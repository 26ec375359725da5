"""The server itself: version, JetStream, limits, flags, clock, and what this user may do there."""

import msgspec

from planter.doctor.facts import Absence, Facts, Probe, Usage
from planter.doctor.findings import Finding, Level, failure, ok, warning
from planter.doctor.wanted import wanted_streams
from planter_protocol import assets

PAYLOAD_MIN = 1024 * 1024
"""Records of 512 KiB and their headers must pass with room to spare; it is NATS's default, too."""
STORAGE_WARN = 0.8
STORAGE_FAIL = 0.95
CLOCK_MS = 500.0

_READING = (2, 11, 0)
_LEADERLESS = "look at the servers' logs; more than half of the servers must be up"
_UPGRADE = "upgrade nats-server to 2.15.1 or later, the version that Planter is tested with"


class Flaw(msgspec.Struct, frozen=True):
    """What is known about versions from one on and below another."""

    since: tuple[int, int, int]
    below: tuple[int, int, int]
    level: Level
    cause: str


FLAWS: tuple[Flaw, ...] = (
    Flaw(
        (0, 0, 0),
        _READING,
        Level.FAILURE,
        "it has no batched direct get (2.11), by which the journal is read",
    ),
    Flaw(
        (2, 12, 0),
        (2, 12, 3),
        Level.FAILURE,
        "it can lose acknowledged messages of replicated streams when it stands still for a while "
        "(nats-server#7594, fixed in 2.12.3)",
    ),
    Flaw(
        (2, 11, 0),
        (2, 12, 7),
        Level.WARNING,
        "published security advisories are open in it (fixed in 2.12.7 and 2.14.0)",
    ),
    Flaw(
        (2, 12, 7),
        (2, 14, 0),
        Level.WARNING,
        "in a cluster it may throw away its log when a snapshot cannot be read (nats-server#7580, "
        "fixed in 2.14.0)",
    ),
)


def check_server(facts: Facts) -> tuple[Finding, ...]:
    """The version: nothing below what is needed, nothing that is known to lose data."""
    version = facts.server.version
    flaw = next((flaw for flaw in FLAWS if flaw.since <= numbers(version) < flaw.below), None)
    if flaw is not None:
        say = failure if flaw.level is Level.FAILURE else warning
        return (say("server", f"nats-server {version}", flaw.cause, _UPGRADE),)
    who = f", user `{facts.server.user}`" if facts.server.user else ""
    where = f", account `{facts.server.account}`" if facts.server.account else ""
    return (ok("server", f"nats-server {version} at {facts.server.url}{where}{who}"),)


def check_jetstream(facts: Facts) -> tuple[Finding, ...]:
    """JetStream is on, for this account, and answers."""
    check = "jetstream"
    match facts.account:
        case Absence.UNSERVED:
            remedy = "start it with `nats-server -js`, or put `jetstream {}` into its configuration"
            return (failure(check, "JetStream is off", "nobody answers $JS.API.INFO", remedy),)
        case Absence.REFUSED:
            said = facts.account_error or "it gives no reason"
            if "not enabled" not in said:
                return (failure(check, "JetStream does not answer", said, _LEADERLESS),)
            remedy = f"put `jetstream: enabled` into account `{facts.server.account}`, or use another user"
            return (failure(check, "JetStream is not there for this user", said, remedy),)
        case Absence.DENIED:
            cause = "this user may not publish $JS.API.INFO"
            return (warning(check, "limits and use are unknown", cause, "ask as a planner's user"),)
        case Absence():
            cause = "$JS.API.INFO had no answer in time: a cluster without a leader does that"
            return (failure(check, "JetStream does not answer", cause, _LEADERLESS),)
        case account:
            return (ok(check, f"on, API level {account.api_level}"),)


def check_payload(facts: Facts) -> tuple[Finding, ...]:
    """Messages as large as Planter makes them pass."""
    size = facts.server.max_payload
    if size >= PAYLOAD_MIN:
        return (ok("max_payload", f"{_bytes(size)}"),)
    cause = "larger records close the connection of the planner that writes them"
    return (
        failure(
            "max_payload", f"{_bytes(size)}, 1 MiB is needed", cause, "set `max_payload: 1MB` on every server"
        ),
    )


def check_flags(facts: Facts) -> tuple[Finding, ...]:
    """No flag is on that this version's client library cannot bear."""
    features = facts.server.features
    if features is None:
        return ()
    if features.get("js_ack_fc_v2"):
        return (
            failure(
                "flags",
                "`js_ack_fc_v2` is on",
                "nats-py 2.16 loses its connection over it as soon as a large manifest is read",
                "set `feature_flags { js_ack_fc_v2: false }` on every server",
            ),
        )
    return (ok("flags", "none that harms"),)


def check_limits(facts: Facts) -> tuple[Finding, ...]:
    """There is room for what Planter stores."""
    if isinstance(facts.account, Absence):
        return ()
    found = [finding for usage in facts.account.usages for finding in _limits(facts, usage)]
    if found:
        return tuple(found)
    limited = [usage for usage in facts.account.usages if usage.storage_max > 0]
    if limited:
        told = ", ".join(
            f"{_bytes(usage.storage)} of {_bytes(usage.storage_max)} used{_tier(usage)}" for usage in limited
        )
        return (ok("storage", told),)
    used = sum(usage.storage for usage in facts.account.usages)
    return (ok("storage", f"{_bytes(used)} used, the account has no limit"),)


def check_disks(facts: Facts) -> tuple[Finding, ...]:
    """Health and disks of the servers, where their monitoring tells."""
    found: list[Finding] = []
    for storage in facts.storages:
        check, name = "disk", storage.server
        if storage.health:
            remedy = "look at its log; after its disk was full it stays frozen until it is restarted"
            found.append(failure("health", f"server {name} is not healthy", storage.health, remedy))
        share = storage.used / storage.maximum if storage.maximum > 0 else 0.0
        if share >= STORAGE_WARN:
            text = f"server {name}: {_bytes(storage.used)} of {_bytes(storage.maximum)} used"
            cause = "when it is full, publishes get no answer until the server is restarted"
            remedy = "raise `max_file_store` in its jetstream block, or remove old streams"
            say = failure if share >= STORAGE_FAIL else warning
            found.append(say(check, text, cause, remedy))
    return tuple(found)


def check_monitors(facts: Facts) -> tuple[Finding, ...]:
    """Every monitoring address that was named has answered."""
    remedy = 'put `http: "127.0.0.1:8222"` into the server\'s configuration, and name that with --monitor'
    return tuple(
        failure("monitor", f"{address} does not answer as a NATS server", reason, remedy)
        for address, reason in facts.monitors_silent.items()
    )


def check_clock(facts: Facts) -> tuple[Finding, ...]:
    """This machine and the server agree on what time it is."""
    if facts.clock is None:
        cause = "the server does not tell its time to this user"
        return (warning("clock", "unknown", cause, "allow this user to publish $SYS.REQ.USER.INFO"),)
    ahead, error = facts.clock.ahead_ms, facts.clock.round_trip_ms / 2
    text = f"the server is {abs(ahead):,.0f} ms {'ahead' if ahead > 0 else 'behind'} (± {error:.1f} ms)"
    if abs(ahead) <= max(error, 1.0):
        text = f"the same as the server's (± {max(error, abs(ahead)):.1f} ms)"
    if abs(ahead) - error > CLOCK_MS:
        cause = "deadlines and retries are planned by the planner's clock, ages and windows by the server's"
        return (warning("clock", text, cause, "run NTP (chrony, systemd-timesyncd) on both machines"),)
    return (ok("clock", text),)


def check_permissions(facts: Facts) -> tuple[Finding, ...]:
    """What this user may do: a clear statement, because not every user should be able to do everything."""
    check, user = "permissions", f"user `{facts.server.user}`" if facts.server.user else "this user"
    if facts.server.inbox_denied:
        cause = "it may not subscribe to _INBOX.>, so no answer can reach it: nothing else could be checked"
        remedy = 'allow it to subscribe to "_INBOX.>"'
        return (failure(check, f"{user} gets no answers", cause, remedy),)
    found = [
        warning(
            check,
            f"{user} may not publish plan.session.*.{verb}",
            _VERBS.get(verb, ""),
            f'allow it to publish "plan.session.*.{verb}", if it should',
        )
        for verb, probe in facts.inputs.items()
        if probe is Probe.DENIED
    ]
    if facts.journal is Probe.DENIED:
        cause = (
            "it cannot follow sessions: `planter run`, `events` and `status` need that, and so do planners"
        )
        remedy = f'allow it to publish "$JS.API.DIRECT.GET.{assets.JOURNAL}", if it should'
        found.append(warning(check, f"{user} may not read the journal", cause, remedy))
    silent = [verb for verb, probe in facts.inputs.items() if probe is Probe.SILENT]
    if silent:
        cause = "the stream that takes them had no answer in time, or another one than a stream gives"
        remedy = "look at the stream's leader: `nats stream info PLANTER_IN`"
        found.append(failure(check, f"inputs are not confirmed: {', '.join(silent)}", cause, remedy))
    if found or not facts.visited:
        return tuple(found)
    verbs = ", ".join(verb for verb, probe in facts.inputs.items() if probe is Probe.ALLOWED)
    return (ok(check, f"{user} may publish inputs ({verbs}) and read the journal"),) if verbs else ()


_VERBS = {
    "start": "it can submit no manifests: right for a runtime or a monitor, wrong for `planter run`",
    "control": "it cannot pause, cancel or retry: right for a runtime or a monitor",
    "ack": "it cannot accept targets: right for everybody but a runtime",
    "report": "it cannot report on phases: right for everybody but a runtime",
}


def numbers(version: str) -> tuple[int, ...]:
    """``(2, 15, 0)`` of ``2.15.0-dev``."""
    parts = version.partition("-")[0].removeprefix("v").split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def _limits(facts: Facts, usage: Usage) -> list[Finding]:
    check, found = "storage", []
    if usage.storage_max > 0 and usage.storage / usage.storage_max >= STORAGE_WARN:
        say = failure if usage.storage / usage.storage_max >= STORAGE_FAIL else warning
        text = f"{_bytes(usage.storage)} of {_bytes(usage.storage_max)} used{_tier(usage)}"
        cause = "when it is full, no input and no decision is stored any more"
        found.append(say(check, text, cause, "raise the account's storage limit, or remove old streams"))
    missing = sum(1 for stream in facts.streams.values() if stream is Absence.MISSING)
    if missing and 0 <= usage.streams_max < usage.streams + missing:
        text = f"{usage.streams_max} streams are allowed{_tier(usage)}, {usage.streams + missing} are needed"
        found.append(failure(check, text, "a planner cannot make its streams", "raise `max_streams`"))
    if 0 <= usage.consumers_max < assets.PARTITIONS:
        text = f"{usage.consumers_max} consumers are allowed{_tier(usage)}, {assets.PARTITIONS} are needed"
        found.append(failure(check, text, "a planner cannot take inputs", "raise `max_consumers`"))
    reserved = sum(
        int(config.get("max_bytes") or 0)
        for name, config in wanted_streams().items()
        if facts.streams.get(name) is Absence.MISSING
    )
    if reserved and 0 <= usage.storage_max < usage.storage + reserved:
        text = (
            f"{_bytes(usage.storage_max)} are allowed{_tier(usage)}, {_bytes(reserved)} are reserved at once"
        )
        cause = "the server refuses to make a stream whose limit is above what the account has left"
        found.append(failure(check, text, cause, "raise the account's storage limit"))
    if missing and usage.needs_max_bytes:
        cause = "Planter's streams have no limit in bytes, so the server refuses to make them"
        text = f"every stream must have a limit{_tier(usage)}"
        found.append(failure(check, text, cause, "set `max_bytes_required: false` for the account"))
    return found


def _tier(usage: Usage) -> str:
    return f" (tier {usage.tier})" if usage.tier else ""


def _bytes(number: float) -> str:
    """``512 B``, ``1 MiB``, ``3.4 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if number >= 10 or number == int(number) else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
