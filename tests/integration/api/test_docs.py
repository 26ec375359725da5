"""docs/http.md: the examples are run as they stand, and its table of errors has every code."""

import asyncio
import os
import re
import sys
from pathlib import Path

from planter.api.problems import KINDS
from planter_testkit.http import running_api

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text(encoding="utf-8")


async def test_the_examples_of_the_page_work_as_they_stand(tmp_path):
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    folder = tmp_path / "work"
    folder.mkdir()
    async with running_api(tmp_path) as api, running_runtime(api, folder):
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            cwd=folder,
            env={**os.environ, "PLANTER": api.url, "TOKEN_FILE": str(tmp_path / "http.token")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        events = (folder / "events.txt").read_text()

    assert process.returncode == 0, err.decode()
    assert out.count(b'"revision":') >= 2
    assert b'"message":"fetching"' in out
    assert b'"update":[{"phaseId":"build"' in out
    assert '"type":"SessionEnded"' in events


def test_the_table_of_errors_has_every_code():
    missing = {code for code in KINDS if f"`{code}`" not in PAGE}

    assert missing == set()


class running_runtime:  # noqa: N801 (used as a context manager)
    """A real runtime process."""

    def __init__(self, api, folder: Path) -> None:
        self.api = api
        self.folder = folder

    async def __aenter__(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "planter_runtime", "--nats", self.api.server.url),
            *("--id", "docs", "--any-selector", "--workdir", str(self.folder)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            while '"docs"' not in (await self.api.http.get("/api/runtimes")).text:
                await asyncio.sleep(0.01)

    async def __aexit__(self, *_: object) -> None:
        self.process.terminate()
        await self.process.wait()
