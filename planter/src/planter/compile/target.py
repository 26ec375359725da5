"""A plan that goes up to one phase and stops there (PMP ``targetPhase``)."""

from hashlib import sha256

import msgspec

from planter.compile.plain import compile_plain
from planter.core.plan import Plan


def read_plain(data: bytes, target: str | None) -> Plan | None:
    """The plan of a plain manifest, up to the target phase if there is one; None: the long way decides."""
    plan = compile_plain(data) if data[:1] == b"[" else None
    return plan if plan is None or target is None else up_to(plan, target)


def up_to(plan: Plan, target: str) -> Plan | None:
    """The plan of the target and of all that it needs; None when there is no such phase.

    What ``compile_manifest`` makes of the same manifest with that target phase.
    """
    by_id = {spec.id: spec for spec in plan.phases}
    wanted: set[str] = set()
    waiting = [target]
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        if name not in by_id:
            return None
        wanted.add(name)
        waiting.extend(by_id[name].needs)
    phases = tuple(spec for spec in plan.phases if spec.id in wanted)
    digest = sha256(b"".join(spec.digest.encode() for spec in phases)).hexdigest()
    return msgspec.structs.replace(plan, digest=f"sha256:{digest}", phases=phases, target=target)
