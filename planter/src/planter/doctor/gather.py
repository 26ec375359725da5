"""Asking a server for the facts, all at once, and leaving nothing behind.

No message is stored: the publishes that test a permission name a stream that does not exist, so that the
stream which takes them refuses them (error 10060): that proves permission, stream and leader, not a quorum.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
from nats.aio.msg import Msg

from planter.doctor.ask import Asker
from planter.doctor.facts import (
    Absence,
    Account,
    Clock,
    Consumer,
    DeadLetter,
    Facts,
    Peer,
    Probe,
    Server,
    Storage,
    Stream,
    Usage,
)
from planter.doctor.monitor import MonitorSilent, ask_monitor, storage_of
from planter.shell.presence import BEAT_SECONDS
from planter_protocol import assets, headers, messages, subjects
from planter_protocol.codec import decode
from planter_protocol.errors import InvalidMessage

_SESSION = "planter-doctor"
_NO_STREAM = "PLANTER_DOCTOR"
_WRONG_STREAM = 10060
_NOT_FOUND = 404
_SAMPLES = 5
_SYNC_TAGS = {"sync:always": 0.0, "sync:default": 120.0}
_RUNTIME_SECONDS = 0.3
"""A runtime answers a discovery at once; half of this would do on one machine."""


async def gather(url: str, monitors: Sequence[str] = (), *, wait: float = 2.0) -> Facts:
    """The facts about the server at the address, in one to two seconds.

    Args:
        url: of the NATS server, as a planner would be given it.
        monitors: monitoring addresses of servers, ``http://host:8222``.
        wait: seconds to look for the server.

    Raises:
        ServerUnreachable: no server answers, or it refuses this user.
    """
    async with Asker.connected(url, wait=wait) as asker:
        server, clock, tagged = await _server_and_clock(asker)
        (
            (account, account_error),
            streams,
            consumers,
            notifiers,
            told,
            asked,
            inputs,
            journal,
            letter,
            alive,
        ) = await _all(
            lambda: _account(asker),
            lambda: _streams(asker),
            lambda: _consumers(asker, assets.IN),
            lambda: _consumers(asker, assets.NOTIFICATIONS),
            lambda: _told_storages(asker),
            lambda: _monitored(monitors),
            lambda: _inputs(asker),
            lambda: _journal(asker),
            lambda: _dead_letter(asker),
            lambda: _alive(asker),
        )
        taken = inputs.get("control") is Probe.ALLOWED
        publish_ms = await _publish_ms(asker) if taken else None
        server = msgspec.structs.replace(server, inbox_denied=asker.inbox_denied)
    return Facts(
        server=server,
        account=account,
        account_error=account_error,
        streams=streams,
        consumers=consumers,
        notifiers=notifiers,
        storages=_merged(tagged, told, asked[0]),
        monitors_silent=asked[1],
        clock=clock,
        inputs=inputs,
        journal=journal,
        publish_ms=publish_ms,
        planners=alive[0],
        runtimes=alive[1],
        dead_letter=letter,
    )


async def _all(*questions: Callable[[], Awaitable[Any]]) -> list[Any]:
    """The answers in the order of the questions, asked at the same time."""
    return list(await asyncio.gather(*(question() for question in questions)))


# -- the server ----------------------------------------------------------------------------------


async def _server_and_clock(asker: Asker) -> tuple[Server, Clock | None, tuple[Storage, ...]]:
    """Every user may ask who it is; the answer has the server's flags and time (2.10 or later)."""
    info, clock = await _timed(asker, "$SYS.REQ.USER.INFO", lambda told: told["server"]["time"])
    if clock is None:
        subject = f"$JS.API.STREAM.INFO.{assets.JOURNAL}"
        _, clock = await _timed(asker, subject, lambda told: told["ts"])
    told, user = info.get("server", {}), info.get("data") or {}
    url = asker.nc.connected_url
    server = Server(
        url=f"nats://{url.netloc.rpartition('@')[2]}" if url else "",
        version=str(told.get("ver") or asker.nc.connected_server_version),
        max_payload=asker.nc.max_payload,
        name=str(told.get("name", "")),
        user=str(user.get("user", "")),
        account=str(user.get("account_name") or user.get("account", "")),
        features=told.get("feature_flags"),
    )
    return server, clock, _tagged(server.name, told.get("tags") or ())


async def _timed(
    asker: Asker, subject: str, read: Callable[[dict[str, Any]], str]
) -> tuple[dict[str, Any], Clock | None]:
    """An answer that has the server's time in it, and the clock of the quickest of some rounds."""
    clocks: list[Clock] = []
    told: dict[str, Any] = {}
    for _ in range(_SAMPLES):
        before, begun = time.time(), time.perf_counter()
        answer = await asker.ask_json(subject)
        took = time.perf_counter() - begun
        if isinstance(answer, Absence):
            break
        told = answer
        try:
            then = datetime.fromisoformat(read(answer)).timestamp()
        except (KeyError, TypeError, ValueError):
            break
        clocks.append(Clock(ahead_ms=(then - before - took / 2) * 1000, round_trip_ms=took * 1000))
    return told, min(clocks, key=lambda clock: clock.round_trip_ms, default=None)


async def _account(asker: Asker) -> tuple[Account | Absence, str]:
    answer = await asker.ask_json("$JS.API.INFO")
    if isinstance(answer, Absence):
        return answer, ""
    if "error" in answer:
        return Absence.REFUSED, str(answer["error"].get("description", ""))
    tiers = answer.get("tiers") or {"": answer}
    usages = tuple(_usage(name, tier) for name, tier in tiers.items())
    return Account(api_level=int(answer.get("api", {}).get("level", 0)), usages=usages), ""


def _usage(tier: str, told: dict[str, Any]) -> Usage:
    limits = told.get("limits", {})
    return Usage(
        tier=tier,
        storage=int(told.get("storage", 0)),
        storage_max=int(limits.get("max_storage", -1)),
        streams=int(told.get("streams", 0)),
        streams_max=int(limits.get("max_streams", -1)),
        consumers=int(told.get("consumers", 0)),
        consumers_max=int(limits.get("max_consumers", -1)),
        needs_max_bytes=bool(limits.get("max_bytes_required", False)),
    )


# -- how it keeps its data -----------------------------------------------------------------------


async def _told_storages(asker: Asker) -> tuple[Storage, ...]:
    """Nobody outside the system account may ask this, unless the account imports it; asking costs nothing."""
    answers = await asker.ask_all("$SYS.REQ.SERVER.PING.JSZ", b'{"config":true}')
    if isinstance(answers, Absence):
        return ()
    found: list[Storage] = []
    for answer in answers:
        try:
            told = msgspec.json.decode(answer.data)
            storage = storage_of(told["data"], str(told["server"]["name"]))
        except (msgspec.DecodeError, KeyError, TypeError):
            continue
        if storage is not None:
            found.append(storage)
    return tuple(found)


async def _monitored(urls: Sequence[str]) -> tuple[tuple[Storage, ...], dict[str, str]]:
    answers = await asyncio.gather(
        *(asyncio.to_thread(ask_monitor, url) for url in urls), return_exceptions=True
    )
    found: list[Storage] = []
    silent: dict[str, str] = {}
    for url, answer in zip(urls, answers, strict=True):
        if isinstance(answer, Storage):
            found.append(answer)
        elif isinstance(answer, MonitorSilent):
            shown = urlsplit(url if "//" in url else f"http://{url}")
            silent[shown.netloc.rpartition("@")[2] or url] = str(answer)
        else:
            raise answer
    return tuple(found), silent


def _tagged(server: str, tags: Sequence[str]) -> tuple[Storage, ...]:
    """What the tags of the server claim; the embedded server is tagged as it is configured."""
    seconds = next((_SYNC_TAGS[tag] for tag in tags if tag in _SYNC_TAGS), None)
    if seconds is None:
        return ()
    return (Storage(server, sync_always=seconds == 0, sync_seconds=seconds, claimed=True),)


def _merged(*sources: Sequence[Storage]) -> tuple[Storage, ...]:
    """One entry a server, of the best source, which comes last: its monitoring knows its health as well."""
    return tuple({storage.server: storage for source in sources for storage in source}.values())


# -- Planter's things ----------------------------------------------------------------------------


async def _streams(asker: Asker) -> dict[str, Stream | Absence]:
    names = list(assets.names())
    return dict(zip(names, await asyncio.gather(*(_stream(asker, name) for name in names)), strict=True))


async def _stream(asker: Asker, name: str) -> Stream | Absence:
    answer = await asker.ask_json(f"$JS.API.STREAM.INFO.{name}")
    if isinstance(answer, Absence):
        return answer
    if "error" in answer:
        return Absence.MISSING if answer["error"].get("code") == _NOT_FOUND else Absence.REFUSED
    cluster, state = answer.get("cluster") or {}, answer.get("state", {})
    leader = str(cluster.get("leader", ""))
    others = [
        Peer(str(peer["name"]), bool(peer.get("current")), bool(peer.get("offline")))
        for peer in cluster.get("replicas") or ()
    ]
    return Stream(
        config=answer["config"],
        messages=int(state.get("messages", 0)),
        last_sequence=int(state.get("last_seq", 0)),
        leader=leader,
        peers=((Peer(leader),) if leader else ()) + tuple(others),
    )


async def _consumers(asker: Asker, stream: str) -> dict[str, Consumer] | Absence:
    answer = await asker.ask_json(f"$JS.API.CONSUMER.LIST.{stream}")
    if isinstance(answer, Absence):
        return answer
    if "error" in answer:
        return Absence.MISSING if answer["error"].get("code") == _NOT_FOUND else Absence.REFUSED
    return {
        str(told["name"]): Consumer(
            config=told["config"],
            pending=int(told.get("num_pending", 0)),
            ack_pending=int(told.get("num_ack_pending", 0)),
            redelivered=int(told.get("num_redelivered", 0)),
            paused=bool(told.get("paused", False)),
        )
        for told in answer.get("consumers") or ()
    }


async def _dead_letter(asker: Asker) -> DeadLetter | None:
    answer = await _direct_get(asker, assets.DEAD_LETTERS, subjects.DEAD_LETTERS_WILDCARD)
    if isinstance(answer, Absence):
        return None
    found = dict(answer.headers or {})
    if "Status" in found:
        return None
    return DeadLetter(found.get(headers.INPUT_SUBJECT, ""), found.get(headers.REASON, ""))


# -- may this user? ------------------------------------------------------------------------------


async def _inputs(asker: Asker) -> dict[str, Probe]:
    probes = await asyncio.gather(*(_probe_input(asker, verb) for verb in subjects.INPUT_VERBS))
    return dict(zip(subjects.INPUT_VERBS, probes, strict=True))


async def _probe_input(asker: Asker, verb: str) -> Probe:
    answer = await asker.ask(
        f"plan.session.{_SESSION}.{verb}", b"{}", headers={headers.EXPECTED_STREAM: _NO_STREAM}
    )
    match answer:
        case Absence.DENIED:
            return Probe.DENIED
        case Absence.UNSERVED:
            return Probe.MISSING
        case Absence():
            return Probe.SILENT
        case _:
            return Probe.ALLOWED if _error_code(answer) == _WRONG_STREAM else Probe.SILENT


async def _journal(asker: Asker) -> Probe:
    answer = await _direct_get(asker, assets.JOURNAL, subjects.journal(_SESSION))
    match answer:
        case Absence.DENIED:
            return Probe.DENIED
        case Absence.UNSERVED:
            return Probe.MISSING
        case Absence():
            return Probe.SILENT
        case _:
            return Probe.ALLOWED


async def _direct_get(asker: Asker, stream: str, subject: str) -> Msg | Absence:
    return await asker.ask(f"$JS.API.DIRECT.GET.{stream}", msgspec.json.encode({"last_by_subj": subject}))


async def _publish_ms(asker: Asker) -> float:
    """Round trip to the stream and back, without what storing costs."""
    times: list[float] = []
    for _ in range(_SAMPLES):
        begun = time.perf_counter()
        await _probe_input(asker, "control")
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


# -- who is alive --------------------------------------------------------------------------------


async def _alive(asker: Asker) -> tuple[tuple[str, ...], tuple[messages.Heartbeat, ...]]:
    """Planners and runtimes that say so while we listen."""
    planners: dict[str, bool] = {}
    runtimes: dict[str, messages.Heartbeat] = {}

    async def on_planner(message: Msg) -> None:
        presence = _read(message, messages.Presence)
        if presence is not None:
            planners[presence.planner_id] = not presence.leaving

    async def on_runtime(message: Msg) -> None:
        beat = _read(message, messages.Heartbeat)
        if beat is not None:
            runtimes[beat.runtime_id] = beat

    listening = (
        await asker.nc.subscribe(subjects.PLANNER_PRESENCE_WILDCARD, cb=on_planner),
        await asker.nc.subscribe(subjects.RUNTIME_HEARTBEAT_WILDCARD, cb=on_runtime),
    )
    await asker.nc.publish(subjects.RUNTIME_DISCOVER, b"")
    answer = await asker.ask(subjects.PLANNER_INFO, b"{}", timeout=1.0)
    if not isinstance(answer, Absence):
        info = _read(answer, messages.PlannerInfo)
        if info is not None:
            planners[info.planner_id] = True
    # Only when there is a planner, others may be there to wait for: then each says so every half second.
    await asyncio.sleep(2 * BEAT_SECONDS if planners else _RUNTIME_SECONDS)
    for subscription in listening:
        await subscription.unsubscribe()
    alive = tuple(sorted(name for name, there in planners.items() if there))
    return alive, tuple(beat for _, beat in sorted(runtimes.items()) if beat.state != "gone")


def _read(message: Msg, kind: type[Any]) -> Any:
    try:
        return decode(message.data, kind)
    except InvalidMessage:
        return None


# -- small readings ------------------------------------------------------------------------------


def _error_code(answer: Msg) -> int:
    try:
        return int(msgspec.json.decode(answer.data)["error"]["err_code"])
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return 0
