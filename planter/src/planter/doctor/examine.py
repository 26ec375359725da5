"""All checks, in the order of their findings: the server, its promises, Planter's things, the work."""

from collections.abc import Callable

from planter.doctor.asset_checks import check_consumers, check_streams
from planter.doctor.durability import check_durability, check_replicas, durability
from planter.doctor.facts import Facts
from planter.doctor.findings import Finding, Report
from planter.doctor.server_checks import (
    check_clock,
    check_disks,
    check_flags,
    check_jetstream,
    check_limits,
    check_monitors,
    check_payload,
    check_permissions,
    check_server,
)
from planter.doctor.work_checks import (
    check_dead_letters,
    check_latency,
    check_notifications,
    check_planners,
    check_runtimes,
)

Check = Callable[[Facts], tuple[Finding, ...]]
"""What one check finds: one finding that all is well, one a problem, none where it does not apply."""

CHECKS: tuple[Check, ...] = (
    check_server,
    check_jetstream,
    check_payload,
    check_flags,
    check_limits,
    check_disks,
    check_monitors,
    check_durability,
    check_replicas,
    check_streams,
    check_consumers,
    check_permissions,
    check_clock,
    check_latency,
    check_planners,
    check_runtimes,
    check_dead_letters,
    check_notifications,
)


def examine(facts: Facts) -> Report:
    """Every check on the facts."""
    findings = tuple(finding for check in CHECKS for finding in check(facts))
    return Report(facts.server.url, durability(facts), findings)
