"""Settings: flag, environment, planter.toml, the user's own file, default."""

import socket
from pathlib import Path

import pytest

from planter.settings import DEFAULT_NATS_URL, ConfigInvalid, load_settings


def load(tmp_path: Path, flags=None, **environ: str):
    env = {"HOME": str(tmp_path / "home"), "PLANTER_DATA": str(tmp_path / "data"), **environ}
    return load_settings(flags, environ=env, folder=tmp_path)


def test_without_anything_the_default_counts(tmp_path):
    settings = load(tmp_path)

    assert (settings.nats_url, settings.origins["nats_url"]) == (DEFAULT_NATS_URL, "default")


def test_each_source_wins_over_the_ones_after_it(tmp_path):
    (tmp_path / "home/.config/planter").mkdir(parents=True)
    (tmp_path / "home/.config/planter/config.toml").write_text('nats_url = "nats://user"\nlog = "debug"\n')
    user = load(tmp_path)
    (tmp_path / "planter.toml").write_text('nats_url = "nats://project"\n')
    project = load(tmp_path)
    general = load(tmp_path, NATS_URL="nats://general")
    own = load(tmp_path, NATS_URL="nats://general", PLANTER_NATS_URL="nats://own")
    flag = load(tmp_path, {"nats_url": "nats://flag", "log": None}, PLANTER_NATS_URL="nats://own")

    assert [found.nats_url for found in (user, project, general, own, flag)] == [
        "nats://user",
        "nats://project",
        "nats://general",
        "nats://own",
        "nats://flag",
    ]
    assert flag.origins["nats_url"] == "--nats-url"
    assert flag.log == "debug"


def test_the_embedded_server_syncs_as_its_default_unless_somebody_says_always(tmp_path):
    default = load(tmp_path).sync
    (tmp_path / "planter.toml").write_text('sync = "always"\n')
    project = load(tmp_path).sync
    environment = load(tmp_path, PLANTER_SYNC="default").sync
    flag = load(tmp_path, {"sync": "always"}, PLANTER_SYNC="default").sync

    assert (default, project, environment, flag) == ("default", "always", "default", "always")


def test_the_folder_of_xdg_wins_over_home(tmp_path):
    (tmp_path / "xdg/planter").mkdir(parents=True)
    (tmp_path / "xdg/planter/config.toml").write_text('nats_url = "nats://xdg"\n')

    assert load(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "xdg")).nats_url == "nats://xdg"


def test_an_unknown_key_is_refused_with_a_suggestion(tmp_path):
    (tmp_path / "planter.toml").write_text('nats-url = "nats://x"\n')

    with pytest.raises(ConfigInvalid, match="unknown setting `nats-url`") as refused:
        load(tmp_path)

    assert refused.value.remedy == "did you mean `nats_url`?"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nats_url = 5\n", "must be a string"),
        ("= 1", "not valid TOML"),
        ('log = "loud"\n', "'loud'"),
        ('sync = "2m"\n', "'2m'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_file(tmp_path, text, problem):
    (tmp_path / "planter.toml").write_text(text)

    with pytest.raises(ConfigInvalid, match=problem) as refused:
        load(tmp_path)

    assert "planter.toml" in str(refused.value)


def test_a_running_dev_server_is_found_only_while_its_port_answers(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"nats://127.0.0.1:{listening.getsockname()[1]}"
        (data / "dev.url").write_text(f"{url}\n")
        while_it_runs = load(tmp_path).nats_url

    assert (while_it_runs, load(tmp_path).nats_url) == (url, DEFAULT_NATS_URL)


def test_an_address_that_somebody_names_wins_over_a_running_dev_server(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        (data / "dev.url").write_text(f"nats://127.0.0.1:{listening.getsockname()[1]}\n")

        assert load(tmp_path, PLANTER_NATS_URL="nats://named").nats_url == "nats://named"


@pytest.mark.parametrize(
    ("text", "seconds"), [("7d", 604_800.0), ("12h", 43_200.0), ("90", 90.0), ("5m", 300.0), ("0", None)]
)
def test_retention_is_a_length_of_time_and_nought_means_for_ever(tmp_path, text, seconds) -> None:
    environ = {"HOME": str(tmp_path), "PLANTER_RETAIN": text, "PLANTER_RETAIN_SESSIONS": "0"}
    found = load_settings(environ=environ, folder=tmp_path)

    assert (found.retain_seconds, found.retain_sessions) == (seconds, None)


@pytest.mark.parametrize(
    ("name", "text"), [("retain", "a week"), ("retain", "-1"), ("retain_sessions", "many")]
)
def test_retention_that_cannot_be_read_is_refused_with_its_origin(tmp_path, name, text) -> None:
    with pytest.raises(ConfigInvalid, match=f"PLANTER_{name.upper()}"):
        load_settings(environ={"HOME": str(tmp_path), f"PLANTER_{name.upper()}": text}, folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "address", "is_loopback"),
    [
        ("127.0.0.1:6767", "127.0.0.1:6767", True),
        (":80", "127.0.0.1:80", True),
        ("localhost", "localhost:6767", True),
        ("[::1]:1", "[::1]:1", True),
        ("[::]:6767", "[::]:6767", False),
        ("0.0.0.0:0", "0.0.0.0:0", False),
        ("planter.internal:8080", "planter.internal:8080", False),
    ],
)
def test_the_address_for_http_is_read(tmp_path, given, address, is_loopback):
    http = load(tmp_path, PLANTER_HTTP=given).http

    assert http is not None
    assert (str(http), http.is_loopback) == (address, is_loopback)


def test_http_is_on_unless_it_is_off(tmp_path):
    assert str(load(tmp_path).http) == "127.0.0.1:6767"
    assert load(tmp_path, PLANTER_HTTP="off").http is None
    free = load(tmp_path, PLANTER_HTTP="localhost:8080 or free").http
    assert free is not None
    assert (free.port, free.or_free, free.setting) == (8080, True, "localhost:8080 or free")


@pytest.mark.parametrize("given", ["nonsense here", "1.2.3.4:99999", "http://localhost:1", "::1:80", "a:b"])
def test_an_address_that_is_none_is_refused_with_its_origin(tmp_path, given):
    with pytest.raises(ConfigInvalid, match="PLANTER_HTTP") as refusal:
        load(tmp_path, PLANTER_HTTP=given)

    assert "127.0.0.1:6767" in str(refusal.value.remedy)


def test_who_may_ask_over_http_can_be_set(tmp_path):
    (tmp_path / "planter.toml").write_text(
        'http_token_for = "everything"\nhttp_hosts = "a.example, b.example"\n'
    )
    settings = load(tmp_path, PLANTER_HTTP_TOKEN_FILE="/run/token")

    assert settings.http_token_for_all
    assert settings.http_hosts == ("a.example", "b.example")
    assert settings.http_token_file == Path("/run/token")
    assert not load(tmp_path / "elsewhere").http_token_for_all
