"""Where secrets are, and that nothing shows them."""

import msgspec
import pytest

from planter_protocol.messages import Failure
from planter_runtime.lines import CUT_MARK
from planter_runtime.outcomes import Cancelled, Completed, Failed
from planter_runtime.secrets import Mask, Secrets, SecretUnusable


def test_a_secret_is_the_text_of_a_file_or_variable(tmp_path) -> None:
    (tmp_path / "token").write_text("a b\r\n")
    secrets = Secrets({"file": str(tmp_path / "token"), "variable": "env:TOKEN"}, {"TOKEN": "c"})

    assert (secrets.read("file"), secrets.read("variable")) == ("a b", "c")
    assert secrets.problem(["file", "variable"]) is None
    assert (
        secrets.problem(["b", "file", "a"]) == "no secret a, b here: start the runtime with --secret a=FILE"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "it is not UTF-8"),
        (b"a\0b", "it holds a NUL character"),
        (b"x" * 70_000, "has more than 65,536 bytes"),
    ],
)
def test_one_that_cannot_be_read_says_why_and_not_what_it_is(tmp_path, content, reason) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)

    with pytest.raises(SecretUnusable, match=reason):
        Secrets({"s": str(tmp_path / "token")}).read("s")


def test_a_variable_that_is_not_set_is_no_secret() -> None:
    with pytest.raises(SecretUnusable, match="variable TOKEN is empty or not set"):
        Secrets({"s": "env:TOKEN"}, {}).read("s")


def masking(*secrets: str) -> Mask:
    mask = Mask()
    for secret in secrets:
        mask.hide(secret)
    return mask


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        ((), "token", "token"),
        (("token",), "a token, two tokens", "a ***, two ***s"),
        (("token", "token-long"), "token-long", "***"),
        (("begin\nmiddle\nends",), "middle", "***"),
        (("abc",), "abc", "abc"),  # too short to be one
        (("token",), f"xtok{CUT_MARK}", f"x***{CUT_MARK}"),
        (("token",), "xtok", "xtok"),
    ],
)
def test_texts_do_not_show_secrets(secrets, text, shown) -> None:
    assert masking(*secrets).text(text) == shown


def test_results_messages_and_details_do_not_show_them() -> None:
    mask = masking('to"ken', "second")
    result = msgspec.json.encode({"a": 'x to"ken', "second": 1})

    assert mask.outcome(Completed(msgspec.Raw(result))) == Completed(msgspec.Raw(b'{"a":"x ***","***":1}'))
    assert mask.outcome(Failed(Failure(message='to"ken: no'))) == Failed(Failure(message="***: no"))
    assert mask.outcome(Cancelled("x")) == Cancelled("x")
    assert mask.outcome(Completed()) == Completed()
    assert (mask.details(None), mask.details(b'"second"')) == (None, b'"***"')


@pytest.mark.parametrize(
    ("secret", "data", "masked"),
    [
        ("1234", b'{"n": 12345, "m": 1}', {"n": "***", "m": 1}),
        ("true", b'[true, "true", null]', [True, "***", None]),
        ("p\u00e4ssword", b'{"a": "my p\\u00e4ssword"}', {"a": "my ***"}),
        ("a/b/c", b'["a\\/b\\/c"]', ["***"]),
        ("token", b'{"token": {"token2": [1.5]}}', {"***": {"***2": [1.5]}}),
    ],
)
def test_json_stays_json_and_hides_a_secret_however_it_is_written(secret, data, masked) -> None:
    outcome = masking(secret).outcome(Completed(msgspec.Raw(data)))

    assert isinstance(outcome, Completed)
    assert msgspec.json.decode(outcome.result) == masked


def test_json_without_secrets_stays_byte_by_byte_and_what_is_none_is_not_shown() -> None:
    mask = masking("secret")

    assert mask.details(b'{ "a" :  1e5 }') == b'{ "a" :  1e5 }'
    assert mask.details(b'{"a": secret') == b'"***"'
