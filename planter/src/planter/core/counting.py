"""What is counted while attempts are out: by the limit that they share, and by runtime."""

from planter.core.session import PhaseState, Session


def occupy(session: Session, index: int) -> None:
    """An attempt is out: it counts against the limit that its phase shares."""
    limit = session.graph.limits[session.graph.group_of[index]]
    count_in(session, limit.key if limit is not None else None)


def count_in(session: Session, key: str | None) -> None:
    """An attempt of a phase with this key is out."""
    if key is not None:
        session.at_work[key] = session.at_work.get(key, 0) + 1


def count_out(session: Session, key: str | None) -> None:
    """It is out no more."""
    if key is not None:
        left = session.at_work.pop(key) - 1
        if left:
            session.at_work[key] = left


def release(session: Session, index: int, phase: PhaseState) -> None:
    """The attempt is no longer out."""
    limit = session.graph.limits[session.graph.group_of[index]]
    count_out(session, limit.key if limit is not None else None)
    session.offered.discard(index)
    session.heard.pop(index, None)
    unload(session, phase.runtime_id, phase.instance, session.spec(index).slots)


def unload(session: Session, runtime_id: str | None, instance: str | None, slots: int) -> None:
    """A runtime that was addressed has an attempt of so many slots less."""
    if runtime_id is not None and instance is not None:
        left = session.load.get(runtime_id, 0) - slots
        if left > 0:
            session.load[runtime_id] = left
        else:
            session.load.pop(runtime_id, None)
