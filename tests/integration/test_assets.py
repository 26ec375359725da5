"""The streams of Planter, made by planners that start at the same time."""

import asyncio
from pathlib import Path

import nats
import pytest

from planter_protocol import JetStreamUnavailable, assets
from planter_testkit.nats import running_nats_server


def limited(folder: Path, store: str) -> list[str]:
    config = folder / "store.conf"
    config.write_text(f"jetstream {{ max_file_store: {store} }}\n")
    return ["-c", str(config)]


async def test_planners_that_start_together_need_the_room_of_the_streams_once(tmp_path: Path) -> None:
    async with running_nats_server(tmp_path / "nats", limited(tmp_path, "260MB")) as server:
        connections = [await nats.connect(server.url) for _ in range(8)]
        await asyncio.gather(*(assets.ensure(nc.jetstream(), url=server.url) for nc in connections))
        found = {info.config.name for info in await connections[0].jetstream().streams_info()}
        for nc in connections:
            await nc.close()

    assert found == set(assets.names())


async def test_a_server_without_the_room_is_told_of(tmp_path: Path) -> None:
    async with running_nats_server(tmp_path / "nats", limited(tmp_path, "100MB")) as server:
        nc = await nats.connect(server.url)
        with pytest.raises(JetStreamUnavailable, match="insufficient storage"):
            await assets.ensure(nc.jetstream(), url=server.url)
        await nc.close()
