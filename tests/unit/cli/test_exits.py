"""Every error has a message, a remedy where there is one, and the status that scripts rely on."""

from pathlib import Path

import pytest
import typer

from planter import errors
from planter.cli.exits import Exit, Interrupted, explain, guarded
from planter.settings import ConfigInvalid
from planter_protocol import errors as wire
from planter_protocol.names import InvalidName


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigInvalid("planter.toml", "unknown setting `x`"), Exit.INVALID),
        (errors.ServerMissing(), Exit.UNREACHABLE),
        (errors.ServerFailed("ended", Path("log"), ("last words",)), Exit.UNREACHABLE),
        (errors.ServerTooOld("nats-server", "2.9.0", "2.11"), Exit.UNREACHABLE),
        (errors.DataFolderInUse(Path("/d"), 7, None), Exit.REFUSED),
        (errors.ChildFailed("planner", "ended with status 1"), Exit.NO),
        (errors.TimedOut("late"), Exit.TIMED_OUT),
        (wire.ServerUnreachable("nats://x", "refused"), Exit.UNREACHABLE),
        (wire.JetStreamUnavailable("x", "off"), Exit.UNREACHABLE),
        (wire.PlannerUnavailable("plan.x"), Exit.UNREACHABLE),
        (wire.SessionNotFound("s"), Exit.NOT_FOUND),
        (wire.RequestRefused("session.busy", "busy"), Exit.REFUSED),
        (wire.RequestRefused("manifest.invalid", "bad"), Exit.INVALID),
        (wire.RequestRefused("phase.unknown", "no such phase"), Exit.NOT_FOUND),
        (InvalidName("session id", "a b"), Exit.USAGE),
        (PermissionError(13, "Permission denied", "/data"), Exit.NO),
        (ZeroDivisionError("x"), Exit.NO),
    ],
)
def test_every_error_has_its_status(error, status):
    explained = explain(error)

    assert explained.status == status
    assert explained.text


def test_an_unreachable_server_names_the_way_out():
    assert "planter dev" in (explain(wire.ServerUnreachable("nats://x", "refused")).remedy or "")


@pytest.mark.parametrize(
    ("raised", "status"),
    [(Interrupted(2), 130), (Interrupted(15), 143), (KeyboardInterrupt(), 130), (errors.TimedOut("x"), 124)],
)
def test_a_guarded_command_ends_with_the_status_of_what_it_raised(raised, status):
    @guarded
    def command() -> int:
        raise raised

    with pytest.raises(typer.Exit) as ended:
        command()

    assert ended.value.exit_code == status


def test_a_guarded_command_shows_no_traceback(capsys):
    @guarded
    def command() -> int:
        raise errors.ServerMissing

    with pytest.raises(typer.Exit):
        command()

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no `nats-server` program found")
    assert "planter-daemon[embedded]" in err
    assert "Traceback" not in err


def test_a_guarded_command_that_succeeds_just_returns():
    assert guarded(lambda: 0)() is None
