"""Requests made from the OpenAPI document: whatever comes, the answer is one that the document describes."""

import asyncio
import os
import subprocess
import sys

import pytest

from planter_testkit.http import running_api

from .test_pmp import complete, manifest, plan

BUDGET_SECONDS = 35


@pytest.mark.slow
async def test_no_request_gets_an_answer_that_the_document_does_not_describe(tmp_path):
    async with running_api(tmp_path, complete) as api:
        await plan(api, manifest("a", "b"))
        await api.until("default", "complete")
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{api.url}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {api.token}", "--no-color", "--seed", "7"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "6", "--max-time", "25"]
        # An opaque cursor and a manifest are of more than a schema can say.
        command += ["--exclude-checks", "positive_data_acceptance"]
        command += ["--request-timeout", "10", "--suppress-health-check", "all"]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(3 * BUDGET_SECONDS):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        log = api.planner.log.read_text()

    assert process.returncode == 0, out.decode()[-6000:]
    assert "http.broken" not in log
