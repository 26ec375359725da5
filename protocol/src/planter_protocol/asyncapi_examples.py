"""One or more examples of every message, for the AsyncAPI document; each is a message of its type."""

from typing import Any

from msgspec import Raw

from planter_protocol import explaining
from planter_protocol import messages as m
from planter_protocol import services as s

_TIME = "2025-07-19T20:00:00.125Z"
_DIGEST = f"sha256:{'5f' * 32}"
_PROOF = "7b1f0c52d3a94e6f8a21c0de94b35a10"
_MANIFEST = b"""[
  {"kind": "Phase", "id": "preflight", "spec": {"selector": {"matchLabels": {"phase": "preflight"}}}},
  {"kind": "Phase", "id": "setup", "spec": {"waitFor": {"phases": ["preflight"]}}}
]"""
_ECHO: dict[str, Any] = {"attempt": 1, "fence": 42, "dispatch_id": _PROOF, "runtime_id": "build-7"}
_LABELS = {"phase": "preflight"}
_TARGET = m.Target(
    phase_id="preflight",
    reason="dependencies satisfied",
    session_id="nightly",
    instance="k3f2qx9d7w2a",
    labels=_LABELS,
    run=Raw(b'{"shell": "make check"}'),
    timeout_ms=600_000,
    **_ECHO,
)
_RUNTIME: dict[str, Any] = {
    "labels": {"os": "linux"},
    "handlers": (_LABELS,),
    "executors": ("noop", "shell"),
    "version": "0.1.0",
    "host": "worker-3",
}
_PREFLIGHT = m.PhaseState(
    phase_id="preflight",
    status="complete",
    attempt=1,
    runtime_id="build-7",
    updated=_TIME,
    started=_TIME,
    finished=_TIME,
    result=Raw(b'{"ok": true}'),
)
_SETUP = m.PhaseState(
    phase_id="setup",
    status="targeted",
    attempt=1,
    max_attempts=3,
    updated=_TIME,
    reason="offered openly: no registered runtime matches kind (by labels), labels (none)",
    needs=("preflight",),
)
_SERVICE: dict[str, Any] = {
    "name": s.PLANNER,
    "id": "planner-x7k2p9",
    "version": "0.1.0",
    "metadata": {"id": "planner-x7k2p9", "state": "ready", "sessions": "12"},
}
_DIFF_AT: dict[str, Any] = {"name": "diff", "subject": "plan.session.*.diff", "queue_group": "planter"}
_PROBLEM: dict[str, Any] = {
    "code": "PLT-1102",
    "severity": "error",
    "message": "unknown key 'selektor' in a spec",
    "hint": "did you mean 'selector'?",
}

EXAMPLES: dict[type, dict[str, Any]] = {
    m.Start: {
        "manifest": m.Start(manifest=Raw(_MANIFEST)),
        "dryRun": m.Start(manifest=Raw(_MANIFEST), dry_run=True),
        "reference": m.Start(manifest_ref=m.ManifestRef(digest=_DIGEST, size=3_000_000)),
    },
    m.Control: {
        "pause": m.Control(command="pause"),
        "retry": m.Control(command="retry", phase_id="setup", reason="the mirror is back"),
        "approve": m.Control(
            command="approve",
            phase_id="deploy",
            by="ann",
            comment="tests are green",
            plan_digest=_DIGEST,
            data=Raw(b'{"region": "eu"}'),
        ),
    },
    m.Acks: {
        "bare": m.Ack(phase_id="setup", accepted=True, queued=True),
        "rejected": m.Ack(phase_id="setup", accepted=False, reason="draining", **_ECHO),
        "many": m.Acks(acks=(m.Ack(phase_id="setup", accepted=True, **_ECHO),)),
    },
    m.Reports: {
        "one": m.Report(phase_id="preflight", status="running", started=_TIME, **_ECHO),
        "many": m.Reports(
            reports=(
                m.Report(
                    phase_id="preflight",
                    status="complete",
                    result=Raw(b'{"ok": true}'),
                    started=_TIME,
                    finished=_TIME,
                    **_ECHO,
                ),
                m.Report(
                    phase_id="setup",
                    status="failed",
                    error=m.Failure(message="exit status 2", kind="exit", exit_code=2),
                    **_ECHO,
                ),
            )
        ),
    },
    m.Target: {"open": m.Target(phase_id="setup", reason="dependencies satisfied"), "addressed": _TARGET},
    m.Targets: {"one": m.Targets(targets=(_TARGET,))},
    m.RuntimeControl: {
        "cancel": m.RuntimeControl(
            command="cancel",
            session_id="nightly",
            phase_id="setup",
            attempt=1,
            fence=42,
            reason="cancelled on request",
        ),
        "drain": m.RuntimeControl(command="drain"),
    },
    m.Heartbeat: {
        "ready": m.Heartbeat(
            runtime_id="build-7",
            instance="k3f2qx9d7w2a",
            slots=4,
            held=(m.Held(session_id="nightly", phase_id="setup", attempt=1, fence=42),),
            pid=4711,
            **_RUNTIME,
        ),
        "gone": m.Heartbeat(runtime_id="build-7", instance="k3f2qx9d7w2a", slots=4, state="gone"),
    },
    m.State: {
        "bare": m.State(phase_id="preflight", status="running", updated=_TIME),
        "planner": m.State(
            phase_id="preflight",
            status="complete",
            updated=_TIME,
            attempt=1,
            runtime_id="build-7",
            by="planner-x7k2p9",
        ),
    },
    m.Log: {
        "output": m.Log(
            level="info",
            message="looking around\nall there",
            timestamp=_TIME,
            phase_id="preflight",
            attempt=1,
            stream="stdout",
            runtime_id="build-7",
        )
    },
    m.Progress: {
        "rows": m.Progress(
            phase_id="load", attempt=1, done=4_200, total=10_000, message="rows", runtime_id="build-7"
        )
    },
    m.Commit: {
        "targeted": m.Commit(
            v=1,
            n=1,
            at=_TIME,
            by="planner-x7k2p9",
            inputs=(17,),
            events=(
                {"type": "PlanApplied", "revision": 1, "digest": _DIGEST, "planRef": _DIGEST},
                {"type": "PhaseTargeted", "phaseId": "preflight", "attempt": 1},
            ),
        )
    },
    m.GetState: {"all": m.GetState(), "page": m.GetState(offset=1_000)},
    m.SessionState: {
        "running": m.SessionState(
            session_id="nightly",
            status="running",
            revision=1,
            plan_digest=_DIGEST,
            created=_TIME,
            updated=_TIME,
            sequence=42,
            phases=(_PREFLIGHT, _SETUP),
            total=2,
        )
    },
    m.Diff: {
        "changes": m.Diff(
            session_id="nightly",
            base_revision=1,
            base_digest=_DIGEST,
            plan_digest=_DIGEST,
            add=("deploy",),
            update=(m.PhaseChange(phase_id="setup", fields=("max_attempts",)),),
            unchanged=("preflight",),
        )
    },
    explaining.Explain: {"one": explaining.Explain(phase_id="setup"), "all": explaining.Explain()},
    explaining.Explanation: {
        "one": explaining.Explanation(
            session_id="nightly",
            status="running",
            text="setup waits",
            sequence=42,
            phase=explaining.PhaseExplanation(
                phase_id="setup",
                status="pending",
                text="waits for preflight",
                since=_TIME,
                conditions=(
                    explaining.Condition(
                        code="need.unmet",
                        text="preflight is running",
                        since=_TIME,
                        phase_id="preflight",
                    ),
                ),
            ),
        )
    },
    m.Notification: {
        "failed": m.Notification(
            id="n-7f3a",
            channel="email",
            address="ops@example.com",
            session_id="nightly",
            revision=1,
            phase_id="preflight",
            attempt=3,
            outcome="failed",
            at=_TIME,
            reason="exit code 1",
            message=("Preflight failed",),
        )
    },
    m.PlannerInfo: {
        "one": m.PlannerInfo(
            planner_id="planner-x7k2p9",
            version="0.1.0@worker-1",
            sessions=12,
            runtimes=(m.RuntimeInfo(runtime_id="build-7", state="ready", slots=4, in_use=1, **_RUNTIME),),
        )
    },
    m.Presence: {"there": m.Presence(planner_id="planner-x7k2p9")},
    m.Handover: {"one": m.Handover(sessions={"nightly": 42})},
    m.Refusal: {
        "unknown": m.Refusal(
            error=m.ErrorReply(code="session.unknown", text="session 'nightly' is not known on this server")
        ),
        "invalid": m.Refusal(
            error=m.ErrorReply(
                code="manifest.invalid",
                text="the manifest is not valid: 1 problem; unknown key 'selektor' in a spec",
                problems=(_PROBLEM,),
            )
        ),
    },
    s.Ping: {"planner": s.Ping(type=s.PING_TYPE, **_SERVICE)},
    s.Info: {
        "planner": s.Info(
            type=s.INFO_TYPE,
            **_SERVICE,
            description="Compiles manifests, decides, offers phases to runtimes, answers queries",
            endpoints=(s.EndpointInfo(**_DIFF_AT, metadata={}),),
        )
    },
    s.Stats: {
        "planner": s.Stats(
            type=s.STATS_TYPE,
            **_SERVICE,
            started=_TIME,
            endpoints=(
                s.EndpointStats(
                    **_DIFF_AT,
                    num_requests=2,
                    num_errors=1,
                    last_error="400:manifest.invalid: the manifest is not valid: 1 problem",
                    processing_time=1_800_000,
                    average_processing_time=900_000,
                ),
            ),
        )
    },
}
"""By type; a message may be of the type that one of many has (an ``Ack`` among ``Acks``)."""
