"""Secrets of a real runtime: the work has them, and nobody else."""

from planter_testkit.answering import answer, answering
from planter_testkit.runtimes import planner_and_runtime, target

TOKEN = "correct-horse"


async def test_programs_and_functions_have_them_and_what_they_say_does_not_show_them(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("OPERATORS", TOKEN)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "work.py").write_text(
        "import os\n"
        "def run():\n"
        "    print(os.environ['TOKEN'], 'OPERATORS' in os.environ)\n"
        "    return {'token': os.environ['TOKEN'], 'length': len(os.environ['TOKEN'])}\n"
    )
    shell = {
        "shell": 'echo "$TOKEN ${#TOKEN}"; echo "no $TOKEN" >&2; exit 1',
        "secrets": {"TOKEN": "by-file"},
    }
    python = {"python": "work:run", "secrets": {"TOKEN": "by-variable"}}
    options = ("--secret", f"by-file={tmp_path}/token", "--secret", "by-variable=env:OPERATORS")
    async with planner_and_runtime(tmp_path, *options) as (planner, _):
        await planner.offer("r1", target("a", shell), target("b", python))
        first, second = await planner.report("a"), await planner.report("b")

    assert planner.output("a", "stdout") == [f"*** {len(TOKEN)}"]
    assert first["error"]["message"] == "the shell script exited with code 1: no ***"
    assert second["result"] == {"token": "***", "length": len(TOKEN)}
    assert planner.output("b") == ["*** False"]


async def test_requests_have_them_in_headers_and_body(tmp_path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    async with (
        answering(lambda head, body: answer("200 OK", TOKEN.encode())) as server,
        planner_and_runtime(tmp_path, "--secret", f"api={tmp_path}/token") as (planner, _),
    ):
        http = {
            "url": server.url,
            "headers": {"Authorization": "Bearer $(TOKEN)"},
            "body": '{"key": "$(TOKEN)", "other": "$(OTHER)"}',
        }
        await planner.offer("r1", target("a", {"http": http, "secrets": {"TOKEN": "api"}}))
        report = await planner.report("a")

    assert f"Authorization: Bearer {TOKEN}\r\n" in server.heads[0]
    assert server.bodies[0] == f'{{"key": "{TOKEN}", "other": "$(OTHER)"}}'.encode()
    assert report["result"]["body"] == "***"


async def test_a_runtime_without_them_rejects_and_one_that_cannot_read_them_fails(tmp_path) -> None:
    run = {"shell": "true", "secrets": {"TOKEN": "api"}}
    async with planner_and_runtime(tmp_path) as (planner, _):
        await planner.offer("r1", target("a", run))
        rejected = await planner.ack("a", accepted=False)
    async with planner_and_runtime(tmp_path / "second", "--secret", "api=/nowhere/token") as (planner, _):
        await planner.offer(
            "r1", target("a", run), target("b", {"python": "m:f", "secrets": {"TOKEN": "api"}})
        )
        failures = [(await planner.report(phase))["error"] for phase in "ab"]

    assert rejected["reason"] == "no secret api here: start the runtime with --secret api=FILE"
    for failure in failures:
        assert failure["message"] == "secret 'api' cannot be read: /nowhere/token: No such file or directory"
        assert (failure["kind"], failure.get("retryable", True)) == ("refused", True)
