"""What the fault scenarios have found, in the smallest form that shows it."""

import asyncio
from pathlib import Path

from planter_protocol import PlanClient, assets
from planter_protocol.reading import last_message
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering, running_planner


async def test_a_hand_over_of_an_impossible_session_is_refused_and_breaks_no_step(tmp_path: Path) -> None:
    async with (
        running_nats_server(tmp_path / "nats") as server,
        running_planner(server.url, tmp_path) as planner,
        PlanClient.connected(server.url) as client,
    ):
        reply = asyncio.Event()

        async def on_reply(_: object) -> None:
            reply.set()

        await client.nc.subscribe("answer", cb=on_reply)
        await client.nc.publish(
            "plan.planner.handover", b'{"sessions": {"no.session id*": 1}}', reply="answer"
        )
        await client.nc.publish("plan.planner.handover", b'{"sessions": {"possible": 0}}', reply="answer")
        async with asyncio.timeout(10):
            await reply.wait()
        await client.submit(
            [{"kind": "Phase", "id": "a", "spec": {"description": "d"}}]
        )  # it has had its turn
        await answering(client, planner)

    assert "step.broken" not in planner.log.read_text()


async def test_a_server_without_room_for_the_streams_is_an_error_that_says_so(tmp_path: Path) -> None:
    small = tmp_path / "small.conf"
    small.write_text("jetstream { max_file_store: 8MB }\n")
    async with running_nats_server(tmp_path / "nats", ["-c", str(small)]) as server:
        planner = Planner(server.url, tmp_path, "planner-1")
        await asyncio.to_thread(planner.process.wait, 20)

    text = planner.log.read_text()
    assert "unexpected" not in text
    assert "storage" in text


async def test_a_dead_letter_that_is_read_directly_says_where_the_input_was(tmp_path: Path) -> None:
    async with (
        running_nats_server(tmp_path / "nats") as server,
        running_planner(server.url, tmp_path),
        PlanClient.connected(server.url) as client,
    ):
        await client.js.publish("plan.session.s1.ack", b"{")
        letter = None
        async with asyncio.timeout(10):
            while letter is None:
                letter = await last_message(client.nc, assets.DEAD_LETTERS, "plan.dead.s1")

    assert [value for value in letter.headers.values() if value.endswith(".s1.ack")]
