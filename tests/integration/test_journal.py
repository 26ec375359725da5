"""What is appended is what is read back, also when a commit does not fit one record."""

from planter.core import Fleet, Session, decide
from planter.core import inputs as i
from planter.shell.journal import RECORD_BYTES_MAX, Journal
from planter_protocol import PlanClient, assets
from planter_testkit.builders import phase, picture, plan, runtime
from planter_testkit.nats import running_nats_server


async def test_a_commit_of_several_records_gives_the_state_that_reading_them_gives(tmp_path) -> None:
    """A target's fence is the sequence of the record in which it stands, not of the commit's last one."""
    long = "x" * 400
    phases = [phase(f"{n}-{long}", digest=str(n)) for n in range(2_000)]
    fleet = Fleet()
    fleet.put(runtime(slots=3_000))
    session, again = Session("s"), Session("s")
    async with running_nats_server(tmp_path) as server, PlanClient.connected(server.url) as client:
        await assets.ensure(client.js)
        journal = Journal(client.nc, client.js, "p")
        start = i.StartPlan(sequence=1, plan=plan(*phases, digest="many"))
        decision = decide(session, [start], 1_000, fleet, targets_max=2_000)
        session.seal(*await journal.append(session, decision.events, 1_000, [1]))
        await journal.load(again)

    fences = {state.fence for state in session.phases}
    assert len(phases) * len(long) > RECORD_BYTES_MAX
    assert again.commits > 1
    assert len(fences) > 1
    assert picture(session) == picture(again)
    assert (session.plan_at, session.record) == (again.plan_at, again.record)
