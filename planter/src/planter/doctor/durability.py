"""Which acknowledged messages survive what: from the copies of the streams and the servers' sync settings.

Sources: NATS documentation, "JetStream: syncing data to disk" (acknowledged means written to the operating
system, synced every two minutes by default); Jepsen, NATS 2.12.1 (2025-12). The table is docs/durability.md.
"""

from planter.doctor.facts import Facts, Stream
from planter.doctor.findings import Durability, Finding, failure, ok, warning
from planter.doctor.wanted import ESSENTIAL
from planter.doctor.wanted import duration as shown_duration

_NANOSECONDS = 1_000_000_000
_NAME_MAX = 50
"""A server without a name of its own is called by its id of 56 characters, which helps nobody."""
_NOTHING = "nothing that was acknowledged is lost"
_EVERYTHING = "everything is lost"
_OTHERS_HAVE_IT = f"{_NOTHING}, while the other servers stay up until the copy is made again"
_UNKNOWN = "unknown: the server does not tell its sync_interval"


def durability(facts: Facts) -> Durability:
    """The mode of a server and what it promises."""
    essential = [stream for name in ESSENTIAL if (stream := facts.found(name)) is not None]
    sync = _sync(facts, essential)
    if not essential:
        unknown = "unknown: there are no streams yet"
        title = "no streams yet" + (f" (sync {_every(sync)})" if sync else "")
        return Durability("none", title, None, sync, unknown, unknown, unknown)
    replicas = min(stream.replicas for stream in essential)
    if any(stream.config.get("storage") == "memory" for stream in essential):
        lost = "everything is lost" if replicas == 1 else "lost, when it happens to most servers"
        title = f"memory (R{replicas})"
        return Durability("memory", title, replicas, sync, lost, lost, lost)
    return _replicated(replicas, sync) if replicas > 1 else _single(sync)


def check_durability(facts: Facts) -> tuple[Finding, ...]:
    """The mode in one line, the promises below it."""
    check, found = "durability", durability(facts)
    claimed = [storage.server for storage in facts.storages if storage.claimed]
    tagged = ("the servers' own tags say so; --monitor asks the servers",) if claimed and found.sync else ()
    if found.mode == "none":
        return (ok(check, found.title, *tagged),) if found.sync else ()
    promises = (
        f"a process is killed: {found.process_killed}",
        f"a machine crashes or loses power: {found.machine_lost}",
        f"a disk is lost: {found.disk_lost}",
        *tagged,
    )
    match found.mode:
        case "always" | "replicated + always":
            return (ok(check, found.title, *promises),)
        case "memory":
            cause, remedy = "a stream is kept in memory", "make the streams again with file storage"
        case "default" | "replicated":
            cause = f"acknowledged means written, not synced: the server syncs {_every(found.sync or '')}"
            remedy = (
                "set `sync_interval: always` in the jetstream block of every server, and restart them in turn"
            )
            if found.mode == "default":
                remedy += "; or run three servers (docs/durability.md)"
        case _:
            cause = f"no client is told the sync_interval of {_untold(facts)}; NATS's default syncs every 2m"
            remedy = (
                "set `sync_interval: always` on every server, and name each monitoring address "
                "with --monitor http://host:8222 to have it checked"
            )
    return (warning(check, found.title, cause, remedy, *promises),)


def check_replicas(facts: Facts) -> tuple[Finding, ...]:
    """All streams have the same number of copies, and every copy is there."""
    check = "replicas"
    streams = {name: stream for name in facts.streams if (stream := facts.found(name)) is not None}
    if not streams:
        return ()
    most = max(stream.replicas for stream in streams.values())
    found = [
        warning(
            check,
            f"{name} has {_copies(stream.replicas)}, other streams have {most}",
            "it is lost, or cannot be used, with one server",
            f"nats stream edit {name} --replicas={most}",
        )
        for name, stream in streams.items()
        if stream.replicas < most
    ]
    if most == 2:
        cause = "two servers must agree on every message: the loss of either stops everything"
        found.append(
            warning(check, "two copies", cause, "use three servers and `planter serve --replicas 3`")
        )
    short = [name for name, stream in streams.items() if 2 * _present(stream) <= stream.replicas]
    if short:
        cause = "no majority of its servers is up, so nothing can be stored"
        remedy = "start the servers that are away: " + ", ".join(_away(streams[short[0]]))
        found.append(failure(check, f"{', '.join(short)}: most copies are away", cause, remedy))
    elif late := sorted({name for stream in streams.values() for name in _away(stream)}):
        cause = "not all copies are up to date: another loss now may stop the work"
        found.append(warning(check, f"away or behind: {', '.join(late)}", cause, "look at the log there"))
    if found or most == 1:
        return tuple(found)
    servers = sorted({peer.name for stream in streams.values() for peer in stream.peers})
    return (ok(check, f"{_copies(most)} on {', '.join(servers)}, all up to date"),)


def _away(stream: Stream) -> list[str]:
    return [peer.name for peer in stream.peers if peer.offline or not peer.current]


def _present(stream: Stream) -> int:
    return max(len(stream.peers), stream.replicas) - len(_away(stream))


def _single(sync: str | None) -> Durability:
    if sync == "always":
        return Durability("always", "always (R1)", 1, sync, _NOTHING, _NOTHING, _EVERYTHING)
    if sync is None:
        title = "default or always (R1, sync unknown)"
        return Durability("unknown", title, 1, None, _NOTHING, _UNKNOWN, _EVERYTHING)
    lost = f"up to the last {sync} of what was acknowledged may be lost"
    return Durability("default", f"default (R1, sync every {sync})", 1, sync, _NOTHING, lost, _EVERYTHING)


def _replicated(replicas: int, sync: str | None) -> Durability:
    if sync == "always":
        mode, title = "replicated + always", f"replicated + always (R{replicas})"
        machine = f"{_NOTHING}, whether it happens to one machine or to all"
    elif sync is None:
        mode, title, machine = "unknown", f"replicated (R{replicas}, sync unknown)", _UNKNOWN
    else:
        mode, title = "replicated", f"replicated (R{replicas})"
        machine = (
            "of one machine: the copies on the others stay, but together with pauses or a partition some may "
            f"be lost; of all at once: up to the last {sync} may be lost"
        )
    return Durability(mode, title, replicas, sync, _NOTHING, machine, _OTHERS_HAVE_IT)


def _untold(facts: Facts) -> str:
    """The servers that keep a copy and whose sync nobody tells."""
    keepers = _keepers([stream for name in ESSENTIAL if (stream := facts.found(name)) is not None])
    names = sorted(keepers.difference(storage.server for storage in facts.storages))
    return ", ".join(name if len(name) <= _NAME_MAX else "the server" for name in names) or "the server"


def _keepers(streams: list[Stream]) -> set[str]:
    return {peer.name for stream in streams for peer in stream.peers}


def _sync(facts: Facts, streams: list[Stream]) -> str | None:
    """The weakest sync of all servers that keep a copy; None as long as one of them is unknown."""
    keepers = _keepers(streams)
    told = {storage.server: storage for storage in facts.storages}
    relevant = [told[name] for name in keepers if name in told] if keepers else list(told.values())
    lazy = [storage.sync_seconds for storage in relevant if not storage.sync_always]
    if lazy:
        return shown_duration(round(max(lazy) * _NANOSECONDS))
    return "always" if relevant and not keepers.difference(told) else None


def _every(sync: str) -> str:
    return sync if sync == "always" else f"every {sync}"


def _copies(number: int) -> str:
    return "one copy" if number == 1 else f"{number} copies"
