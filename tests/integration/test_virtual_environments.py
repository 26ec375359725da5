"""Phases with a Python environment of their own: real ones, made by the tests."""

import venv

from planter_testkit.runtimes import planner_and_runtime, target

WORK = """
import os, sys

def what_is_there():
    import only_there
    from planter_runtime import PermanentFailure, heartbeat, last_details
    heartbeat({"at": 1})
    found = {"prefix": sys.prefix, "found": only_there.NAME, "before": last_details()}
    return {**found, "venv": os.environ["VIRTUAL_ENV"]}

def give_up():
    from planter_runtime import PermanentFailure
    raise PermanentFailure("enough")
"""


async def test_a_function_finds_the_packages_of_its_environment_and_what_functions_need_of_ours(
    tmp_path,
) -> None:
    venv.create(tmp_path / "own", symlinks=True)
    (packages,) = (tmp_path / "own" / "lib").glob("python*/site-packages")
    (packages / "only_there.py").write_text("NAME = 'there'\n")
    (tmp_path / "work.py").write_text(WORK)
    async with planner_and_runtime(tmp_path) as (planner, _):
        run = {"python": "work:what_is_there", "venv": "own"}
        await planner.offer("r1", target("a", run, heartbeatMs=10_000, details={"at": 0}))
        await planner.offer("r1", target("b", {"python": "work:give_up", "venv": str(tmp_path / "own")}))
        first, second = await planner.report("a"), await planner.report("b")

    where = str(tmp_path / "own")
    assert first["result"] == {"prefix": where, "found": "there", "before": {"at": 0}, "venv": where}
    assert (second["error"]["message"], second["error"]["retryable"]) == ("enough", False)


async def test_one_that_is_not_there_is_named_with_a_remedy_and_one_outside_is_rejected(tmp_path) -> None:
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", {"shell": "true", "venv": "absent"}))
        await planner.offer("r1", target("b", {"shell": "true", "venv": "../outside"}))
        missing, outside = await planner.report("a"), await planner.ack("b", accepted=False)

    assert missing["error"]["kind"] == "refused"
    assert missing["error"]["message"] == (
        f"there is no virtual environment in {tmp_path}/absent: "
        "make it in an earlier phase (`python -m venv`), or correct `venv`"
    )
    assert outside["reason"].startswith("venv '../outside' leaves the work folder")
