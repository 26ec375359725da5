"""What no runtime takes, told before it waits: when a manifest is compared, and when it is submitted."""

from collections.abc import Iterable

from planter.core.fleet import Fleet, Runtime
from planter.core.placement import gaps
from planter.core.plan import PhaseSpec
from planter_protocol import messages

_GAPS_MAX = 20
_NAMES_MAX = 20


def gaps_of(fleet: Fleet, specs: Iterable[PhaseSpec]) -> tuple[messages.Gap, ...]:
    """The gaps of these phases, as a message."""
    return tuple(
        messages.Gap(reason=reason, phases=names[:_NAMES_MAX], count=len(names))
        for reason, names in gaps(fleet, specs, _GAPS_MAX)
    )


def fleet_of(infos: Iterable[messages.RuntimeInfo]) -> Fleet:
    """The fleet that a planner has told of."""
    fleet = Fleet()
    for info in infos:
        fleet.put(
            Runtime(
                id=info.runtime_id,
                instance="",
                slots=info.slots,
                labels=info.labels,
                handlers=info.handlers,
                executors=frozenset(info.executors),
                capabilities=frozenset(info.capabilities),
                takes_new=info.state == "ready",
                host=info.host,
                version=info.version,
            )
        )
    return fleet
