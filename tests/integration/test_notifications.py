"""What handlers want sent is sent, by real SMTP and HTTP, whatever goes wrong (docs/notifications.md)."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from planter_protocol import PlanClient, RequestRefused, assets
from planter_protocol.messages import Control, Log
from planter_protocol.reading import read_subject
from planter_testkit.nats import running_nats_server
from planter_testkit.planners import Planner, answering, judged
from planter_testkit.receivers import hook_receiver, mail_receiver
from planter_testkit.scripted import scripted_runtime

SECONDS = 40.0


def phase(name: str, *needs: str, **handlers: Any) -> dict[str, Any]:
    """A no-op phase with ``onSuccess`` or ``onFailure``."""
    spec: dict[str, Any] = {"x-run": {"noop": {}}, **handlers}
    if needs:
        spec["waitFor"] = {"phases": list(needs)}
    return {"kind": "Phase", "id": name, "spec": spec}


def handler(action: str | None = None, **spec: Any) -> dict[str, Any]:
    """A handler as PMP has it."""
    return {"spec": spec} if action is None else {"action": action, "spec": spec}


def fails(target: dict[str, Any]) -> dict[str, Any]:
    """A script: phases whose name begins with ``bad`` fail."""
    if target["phaseId"].startswith("bad"):
        return {"status": "failed", "error": {"message": "disk <full>", "retryable": False}}
    return {"status": "complete"}


class Stand:
    """A server, planners by name, one runtime and a client."""

    def __init__(self, url: str, folder: Path, client: PlanClient, environment: Mapping[str, str]) -> None:
        self.url = url
        self.folder = folder
        self.client = client
        self.environment = environment
        self.planners: list[Planner] = []

    async def planner(self, name: str = "p1", **variables: str) -> Planner:
        """Start one and wait for it."""
        environment = {**self.environment, "PLANTER_NOTIFY_PAUSE": "0.2s", **variables}
        planner = Planner(self.url, self.folder, name, environment=environment)
        self.planners.append(planner)
        await answering(self.client, planner)
        return planner

    async def run(self, *phases: dict[str, Any], session: str = "s") -> str | None:
        """Submit and wait for the end; its status."""
        await self.client.submit(list(phases), session=session)
        async with asyncio.timeout(SECONDS):
            return (await judged(self.client, session)).status

    async def line(self, *parts: str, session: str = "s") -> Log:
        """The first line of the session's log that has all of the parts."""
        async with asyncio.timeout(SECONDS):
            async for _, line in self.client.logs(session, follow=True):
                if all(part in line.message for part in parts):
                    return line
        raise AssertionError("a log without end has ended")

    async def lines(self, part: str, session: str = "s") -> list[str]:
        """All lines with the part so far."""
        return [line.message async for _, line in self.client.logs(session) if part in line.message]

    async def everything_stored(self) -> bytes:
        """All that planners have stored and logged, but for the inputs, which are the client's own words."""
        found = [planner.log.read_bytes() for planner in self.planners]
        for stream, subject in (
            (assets.JOURNAL, "plan.journal.*"),
            (assets.LOGS, "plan.session.*.log"),
            (assets.NOTIFICATIONS, "plan.notify.>"),
            (f"KV_{assets.SESSIONS_BUCKET}", "$KV.>"),
        ):
            found += [stored.data async for stored in read_subject(self.client.nc, stream, subject)]
        return b"\n".join(found)

    async def unsent(self) -> int:
        """Notifications that are not dealt with."""
        found = 0
        for channel in ("email", "hook", "other"):
            info = await self.client.js.consumer_info(assets.NOTIFICATIONS, assets.notifier_name(channel))
            found += (info.num_pending or 0) + (info.num_ack_pending or 0)
        return found


@asynccontextmanager
async def stand(folder: Path, **environment: str) -> AsyncGenerator[Stand]:
    """Everything but the planners."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_nats_server(folder))
        client = await stack.enter_async_context(PlanClient.connected(server.url))
        await stack.enter_async_context(scripted_runtime(server.url, script=fails))
        made = Stand(server.url, folder, client, environment)
        try:
            yield made
        finally:
            for planner in made.planners:
                planner.stop()


def by_mail(port: int) -> dict[str, str]:
    """Settings for the mail server of a test."""
    return {
        "PLANTER_NOTIFY_SMTP_HOST": "127.0.0.1",
        "PLANTER_NOTIFY_SMTP_PORT": str(port),
        "PLANTER_NOTIFY_SMTP_TLS": "none",
        "PLANTER_NOTIFY_SMTP_FROM": "planter@example.com",
    }


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_handlers_send_mail_and_slack_and_webhook_once_each(tmp_path: Path) -> None:
    async with mail_receiver() as mail, hook_receiver() as hook:
        secret = tmp_path / "ops.url"
        secret.write_text(hook.url() + "\n")
        settings = {
            **by_mail(mail.port),
            "PLANTER_NOTIFY_SLACK_OPS_FILE": str(secret),
            "PLANTER_NOTIFY_WEBHOOK_AUDIT": hook.url("/audit?key=T0P-S3CRET"),
        }
        async with stand(tmp_path, **settings) as made:
            await made.planner()
            told = handler(
                "continue",
                message=["Disk trouble", "\r\nBcc: everybody@example.com <!channel>"],
                labels={"team": "storage"},
                notify={"email": "ops@example.com", "slack": "#Ops", "webhook": "audit"},
            )
            status = await made.run(phase("bad", onFailure=told), phase("after", "bad"))
            said = [await made.line("sent to", where) for where in ("ops@example.com", "'ops'", "'audit'")]
            while await made.unsent():
                await asyncio.sleep(0.02)
            remark = await made.line("Disk trouble")
            events = [e for commit in await made.client.history("s") for e in commit.events]
            stored = await made.everything_stored()

    assert status == "complete"
    (letter,) = mail.mails
    assert (letter["To"], letter["From"]) == ("ops@example.com", "planter@example.com")
    assert letter["Subject"] == "[planter] phase bad of session s: failed"
    assert letter["Bcc"] is None
    assert "Disk trouble" in letter.get_content()
    assert "reason: disk <full>" in letter.get_content()
    assert [envelope.rcpt_tos for envelope in mail.envelopes] == [["ops@example.com"]]
    posted = {head.split()[1]: body for head, _, body in hook.requests}
    assert len(hook.requests) == 2
    assert "&lt;!channel&gt;" in posted["/hook/T0P-S3CRET"]["text"]
    document = posted["/audit?key=T0P-S3CRET"]
    assert document["labels"] == {"team": "storage"}
    assert (document["phaseId"], document["outcome"], document["reason"]) == ("bad", "failed", "disk <full>")
    assert {line.level for line in said} == {"info"}
    assert (remark.labels, remark.level) == ({"team": "storage"}, "error")
    (called,) = [event for event in events if event["type"] == "HandlerCalled"]
    assert (called["phaseId"], called["labels"]) == ("bad", {"team": "storage"})
    assert b"S3CRET" not in stored


async def test_a_question_is_told_when_it_is_asked(tmp_path: Path) -> None:
    async with mail_receiver() as mail, hook_receiver() as hook:
        settings = {**by_mail(mail.port), "PLANTER_NOTIFY_SLACK_OPS": hook.url("/slack")}
        async with stand(tmp_path, **settings) as made:
            await made.planner()
            asked = {"message": "Deploy <1.2>?", "notify": {"email": "ops@example.com", "slack": "ops"}}
            gate = {"id": "to prod", "spec": {"x-run": {"approval": asked}}}
            await made.client.submit([gate], session="s")
            for where in ("ops@example.com", "'ops'"):
                await made.line("sent to", where)
            remark = await made.line("Deploy <1.2>?")
            answer = Control(command="approve", phase_id="to prod", by="ann")
            await made.client.send_control_confirmed("s", answer)
            events = [e["type"] for commit in await made.client.history("s") for e in commit.events]

    (letter,) = mail.mails
    assert letter["Subject"] == "[planter] phase to prod of session s: waits for approval"
    assert "Deploy <1.2>?" in letter.get_content()
    assert "planter control s approve 'to prod'" in letter.get_content()
    ((_, _, posted),) = hook.requests
    assert posted["text"].startswith(":raised_hand: phase to prod")
    assert "Deploy &lt;1.2&gt;?" in posted["text"]
    assert remark.level == "info"
    assert events.index("ApprovalRequested") < events.index("HandlerCalled") < events.index("PhaseApproved")


async def test_after_errors_and_a_refused_connection_it_is_sent_at_last(tmp_path: Path) -> None:
    port = free_port()
    settings = {"PLANTER_NOTIFY_SLACK_OPS": f"http://127.0.0.1:{port}/x"}
    async with stand(tmp_path, **settings) as made:
        await made.planner()
        status = await made.run(phase("a", onSuccess=handler(notify={"slack": "ops"})))
        refused = await made.line("not sent to Slack channel 'ops' yet")
        async with hook_receiver(lambda n: "500 No" if n < 3 else "200 OK", port) as hook:
            said = await made.line("sent to Slack channel 'ops'", "notification of complete: sent")
            posts = len(hook.requests)

    assert status == "complete"
    assert "cannot be reached (ConnectError)" in refused.message
    assert (posts, said.level) == (3, "info")


@pytest.mark.parametrize(
    ("answer", "posts", "says"),
    [
        ("500 No", 4, "it answers HTTP 500; tried 4 times"),
        ("404 Gone", 1, "it answers HTTP 404; tried once"),
        ("302 Found\r\nLocation: /elsewhere", 1, "HTTP 302, and redirections are not followed; tried once"),
    ],
)
async def test_what_cannot_be_sent_is_given_up_with_a_line_in_the_log(
    answer: str, posts: int, says: str, tmp_path: Path
) -> None:
    async with hook_receiver(lambda _: answer) as hook:
        settings = {"PLANTER_NOTIFY_WEBHOOK_AUDIT": hook.url(), "PLANTER_NOTIFY_TRIES": "4"}
        async with stand(tmp_path, **settings) as made:
            await made.planner()
            await made.run(phase("a", onSuccess=handler(notify={"webhook": "audit"})))
            said = await made.line("could not be sent to webhook 'audit'")
            while await made.unsent():
                await asyncio.sleep(0.02)

    assert (said.level, len(hook.requests)) == ("error", posts)
    assert says in said.message


async def test_a_mail_that_is_put_off_is_tried_again_and_a_refused_one_is_not(tmp_path: Path) -> None:
    async with mail_receiver() as mail:
        mail.answer = "451 later"
        async with stand(tmp_path, **by_mail(mail.port)) as made:
            await made.planner()
            told = handler(notify={"email": "a@example.com"})
            await made.run(phase("a", onSuccess=told), session="s1")
            await made.line("not sent", "451", session="s1")
            mail.answer = None
            await made.line("notification of complete: sent to a@example.com by mail", session="s1")
            mail.answer = "550 no such user"
            await made.run(phase("a", onSuccess=told), session="s2")
            refused = await made.line("could not be sent", session="s2")

    assert "550" in refused.message
    assert "tried once" in refused.message
    assert len(mail.mails) == 1


@pytest.mark.parametrize("failpoint", ["journal.appended:2", "handler.store:1", "handler.stored:1"])
async def test_when_its_planner_is_killed_before_it_is_stored_another_one_sends_it(
    failpoint: str, tmp_path: Path
) -> None:
    async with hook_receiver() as hook, stand(tmp_path, PLANTER_NOTIFY_WEBHOOK_AUDIT=hook.url()) as made:
        first = await made.planner("p1", PLANTER_FAILPOINT=failpoint)
        told = handler(message=["well"], notify={"webhook": "audit"})
        await made.client.submit([phase("a", onSuccess=told)], session="s")
        await asyncio.to_thread(first.process.wait, SECONDS)
        await made.planner("p2")
        async with asyncio.timeout(SECONDS):
            verdict = await judged(made.client, "s")
        await made.line("sent to webhook 'audit'")
        while await made.unsent():
            await asyncio.sleep(0.02)
        well = await made.lines("well")

    assert (verdict.status, verdict.attempts) == ("complete", 1)
    assert len(hook.requests) == 1
    assert well == ["well"]


async def test_when_its_planner_is_killed_while_it_sends_another_one_sends_it_with_the_same_id(
    tmp_path: Path,
) -> None:
    async with hook_receiver() as hook:
        hook.delay = 60.0
        async with stand(tmp_path, PLANTER_NOTIFY_WEBHOOK_AUDIT=hook.url()) as made:
            first = await made.planner("p1")
            await made.run(phase("a", onSuccess=handler(notify={"webhook": "audit"})))
            async with asyncio.timeout(SECONDS):
                while not hook.requests:
                    await asyncio.sleep(0.01)
            first.kill()
            hook.delay = 0.0
            await made.planner("p2")
            await made.line("sent to webhook 'audit'")

    keys = {fields["idempotency-key"] for _, fields, _ in hook.requests}
    assert (len(hook.requests), len(keys)) == (2, 1)


async def test_a_mail_server_that_never_answers_slows_no_phase_and_no_other_channel(tmp_path: Path) -> None:
    async with mail_receiver() as mail, hook_receiver() as hook:
        mail.delay = 60.0
        settings = {**by_mail(mail.port), "PLANTER_NOTIFY_SLACK_OPS": hook.url()}
        async with stand(tmp_path, **settings) as made:
            await made.planner()
            told = handler(notify={"email": "a@example.com", "slack": "ops"})
            names = [f"p{n}" for n in range(40)]
            chain = [phase(n, *names[i - 1 : i], onSuccess=told) for i, n in enumerate(names)]
            begun = time.monotonic()
            status = await made.run(*chain)
            took = time.monotonic() - begun
            async with asyncio.timeout(SECONDS):
                while len(hook.requests) < 40:
                    await asyncio.sleep(0.02)

    assert status == "complete"
    assert took < 8
    assert mail.mails == []


async def test_without_settings_the_log_says_once_a_session_what_was_wanted_and_how_to_set_it_up(
    tmp_path: Path,
) -> None:
    async with stand(tmp_path) as made:
        await made.planner("p1")
        await made.planner("p2")
        told = handler(notify={"email": "a@example.com", "slack": "ops", "x-pager": "me"})
        await made.run(*(phase(f"p{n}", onSuccess=told) for n in range(6)))
        async with asyncio.timeout(SECONDS):
            while await made.unsent():
                await asyncio.sleep(0.02)
        wanted = await made.lines("was wanted")
        unknown = await made.lines("x-pager")

    assert len(wanted) == 2
    assert any("PLANTER_NOTIFY_SMTP_HOST" in line for line in wanted)
    assert any("PLANTER_NOTIFY_SLACK_OPS_FILE" in line for line in wanted)
    assert len(unknown) == 6


async def test_only_allowed_domains_get_mail(tmp_path: Path) -> None:
    async with mail_receiver() as mail, stand(tmp_path, **by_mail(mail.port)) as made:
        await made.planner()
        told = handler(notify={"email": "a@example.com, b@example.org"})
        await made.run(phase("a", onSuccess=told))
        said = await made.line("could not be sent")

    assert "the domain example.org is not allowed" in said.message
    assert mail.begun == 0


async def test_a_url_in_a_manifest_is_refused_and_stored_nowhere_unless_its_host_is_allowed(
    tmp_path: Path,
) -> None:
    async with hook_receiver() as hook, stand(tmp_path) as made:
        planner = await made.planner()
        given = [phase("a", onSuccess=handler(notify={"webhook": hook.url()}))]
        with pytest.raises(RequestRefused) as refused:
            await made.client.submit(given, session="s")
        stored = await made.everything_stored()
        planner.stop()
        await made.planner("p2", PLANTER_NOTIFY_HOSTS="hooks.example.com, 127.0.0.1")
        status = await made.run(*given, session="t")
        said = await made.line("sent to webhook at 127.0.0.1", session="t")

    assert "a (onSuccess.spec.notify.webhook)" in str(refused.value)
    assert "S3CRET" not in str(refused.value)
    assert b"S3CRET" not in stored
    assert (status, len(hook.requests)) == ("complete", 1)
    assert "S3CRET" not in said.message


async def test_what_is_no_notification_is_dropped_and_blocks_nothing(tmp_path: Path) -> None:
    async with hook_receiver() as hook, stand(tmp_path, PLANTER_NOTIFY_WEBHOOK_AUDIT=hook.url()) as made:
        await made.planner()
        for data in (b"", b"{", msgspec.json.encode({"channel": "webhook"})):
            await made.client.js.publish("plan.notify.s.hook.x", data)
        await made.run(phase("a", onSuccess=handler(notify={"webhook": "audit"})))
        await made.line("sent to webhook 'audit'")
        async with asyncio.timeout(SECONDS):
            while await made.unsent():
                await asyncio.sleep(0.02)

    assert len(hook.requests) == 1
