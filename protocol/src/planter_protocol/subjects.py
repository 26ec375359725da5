"""Every subject Planter speaks on: one builder each, the literal above it, and the way back.

Session subjects are those of the Phase Manifest Protocol, chapter "NATS Interface"; ``report``, ``explain``,
``plan.runtime.*``, ``plan.journal.*`` and ``plan.planner.*`` are Planter's additions.
"""

from typing import NamedTuple

from planter_protocol.names import RuntimeId, SessionId, is_token, runtime_id, session_id

# -- inputs: durable, kept in the stream PLANTER_IN until a planner has committed them -------


def start(session: str) -> str:
    """``plan.session.<id>.start``: a manifest begins or revises a session."""
    return _session(session, "start")


def control(session: str) -> str:
    """``plan.session.<id>.control``: pause, resume, cancel, retry, skip, rerun."""
    return _session(session, "control")


def ack(session: str) -> str:
    """``plan.session.<id>.ack``: a runtime accepts or rejects a target."""
    return _session(session, "ack")


def report(session: str) -> str:
    """``plan.session.<id>.report``: a runtime tells how an attempt goes."""
    return _session(session, "report")


INPUT_VERBS = ("start", "control", "ack", "report")
INPUTS_FROM = "plan.session.*.*"
INPUTS_STORED_AS = "in.{{partition(%d,1)}}.{{wildcard(1)}}.{{wildcard(2)}}"
"""How the server files an input, given the number of partitions; see ``partition``."""


def partition(number: int) -> str:
    """``in.<partition>.>``: the stored inputs of one partition."""
    return f"in.{number}.>"


INPUT_WILDCARDS = tuple(f"plan.session.*.{verb}" for verb in INPUT_VERBS)

# -- notices: what monitors and bare runtimes listen to --------------------------------------


def target(session: str) -> str:
    """``plan.session.<id>.target``: a phase is offered to whoever takes it."""
    return _session(session, "target")


def state(session: str) -> str:
    """``plan.session.<id>.state``: one message a phase status change."""
    return _session(session, "state")


def events(session: str) -> str:
    """``plan.session.<id>.events``: the journal's records, republished by the server."""
    return _session(session, "events")


def log(session: str) -> str:
    """``plan.session.<id>.log``: output of phases and remarks of the planner (stream PLANTER_LOGS)."""
    return _session(session, "log")


def progress(session: str) -> str:
    """``plan.session.<id>.progress``: how far running work is; kept nowhere."""
    return _session(session, "progress")


LOG_WILDCARD = "plan.session.*.log"

# -- queries: request and reply --------------------------------------------------------------


def get_state(session: str) -> str:
    """``plan.session.<id>.get_state``: the full state of a session."""
    return _session(session, "get_state")


def diff(session: str) -> str:
    """``plan.session.<id>.diff``: what a manifest would change."""
    return _session(session, "diff")


def explain(session: str) -> str:
    """``plan.session.<id>.explain``: why phases are not running."""
    return _session(session, "explain")


GET_STATE_WILDCARD = "plan.session.*.get_state"
DIFF_WILDCARD = "plan.session.*.diff"
EXPLAIN_WILDCARD = "plan.session.*.explain"
PLANNER_INFO = "plan.planner.info"
"""Request and reply: which planner answers, and which runtimes it knows."""


def planner_presence(planner: str) -> str:
    """``plan.planner.<id>.presence``: a planner says that it is there, or that it leaves."""
    return f"plan.planner.{runtime_id(planner)}.presence"


def planner_echo(planner: str) -> str:
    """``plan.planner.<id>.echo``: nobody listens; that the server says so shows that it is there."""
    return f"plan.planner.{runtime_id(planner)}.echo"


PLANNER_PRESENCE_WILDCARD = "plan.planner.*.presence"
PLANNER_HANDOVER = "plan.planner.handover"
"""Request and reply among planners: the owner of the session takes it over."""

# -- one runtime -----------------------------------------------------------------------------


def runtime_target(runtime: str) -> str:
    """``plan.runtime.<id>.target``: targets addressed to one runtime."""
    return f"plan.runtime.{runtime_id(runtime)}.target"


def runtime_control(runtime: str) -> str:
    """``plan.runtime.<id>.control``: cancel an attempt, drain."""
    return f"plan.runtime.{runtime_id(runtime)}.control"


def runtime_heartbeat(runtime: str) -> str:
    """``plan.runtime.<id>.heartbeat``: the runtime's registration, repeated to renew its lease."""
    return f"plan.runtime.{runtime_id(runtime)}.heartbeat"


RUNTIME_HEARTBEAT_WILDCARD = "plan.runtime.*.heartbeat"
RUNTIME_DISCOVER = "plan.runtime.discover"
"""A planner asks every runtime for its heartbeat now."""

# -- the journal: written by planners only ---------------------------------------------------


def journal(session: str) -> str:
    """``plan.journal.<id>``: the commit records of a session; the source of truth."""
    return f"plan.journal.{session_id(session)}"


JOURNAL_WILDCARD = "plan.journal.*"
JOURNAL_REPUBLISH_TO = "plan.session.{{wildcard(1)}}.events"
DEAD_LETTERS_WILDCARD = "plan.dead.>"


def dead_letter(session: str) -> str:
    """``plan.dead.<id>``: an input that could not be read, kept with the reason."""
    return f"plan.dead.{session if is_token(session) else '_'}"


def notification(session: str, channel: str, token: str) -> str:
    """``plan.notify.<id>.<channel>.<token>``: what a handler wants sent (planners only)."""
    return f"plan.notify.{session_id(session)}.{channel}.{token}"


NOTIFICATIONS_WILDCARD = "plan.notify.>"

# -- the way back ----------------------------------------------------------------------------


class SessionSubject(NamedTuple):
    """A parsed ``plan.session.<id>.<verb>``."""

    session: SessionId
    verb: str


def parse_session(subject: str) -> SessionSubject | None:
    """The parts of a session subject, or None for any other subject (bad ids included)."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[:2] != ["plan", "session"] or not is_token(parts[2]):
        return None
    return SessionSubject(SessionId(parts[2]), parts[3])


def parse_input(subject: str) -> SessionSubject | None:
    """The session and verb of a stored input, ``in.<partition>.<id>.<verb>``, or None for a bad id."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] != "in" or not is_token(parts[2]):
        return None
    return SessionSubject(SessionId(parts[2]), parts[3])


def parse_runtime(subject: str) -> tuple[RuntimeId, str] | None:
    """``(runtime id, verb)`` of a ``plan.runtime.<id>.<verb>`` subject, or None."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[:2] != ["plan", "runtime"] or not is_token(parts[2]):
        return None
    return RuntimeId(parts[2]), parts[3]


def parse_journal(subject: str) -> SessionId | None:
    """The session of a ``plan.journal.<id>`` subject, or None."""
    parts = subject.split(".")
    if len(parts) != 3 or parts[:2] != ["plan", "journal"] or not is_token(parts[2]):
        return None
    return SessionId(parts[2])


def _session(session: str, verb: str) -> str:
    return f"plan.session.{session_id(session)}.{verb}"
