"""What nats-py makes of a server's bytes, held against what the sieve makes of them, however they are cut."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.protocol.parser import Parser

from planter_protocol.sifting import Sieve, read_headers

OURS = 1
Operation = tuple[object, ...]

HEADERS = st.sampled_from(
    [
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nNats-Msg-Id: a/1/b\r\nOther:\xc3\xa4\r\n\r\n",
        b"NATS/1.0\r\nTwo: 1\r\nTwo: 2\r\nEmpty:\r\nNoColon\r\nIn side: x\r\n\xff: x\r\nBad: \xff\r\n\r\n",
        b"NATS/1.0 404\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 5\r\nNats-Pending-Bytes: 0\r\n\r\n",
        b"NATS/1.0 100 FlowControl Request\r\n\r\n",
    ]
)
PAYLOADS = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"\r\n", b"PING\r\n", b"MSG a 1 5\r\nabcde\r\n", b"x" * 9_000]),
)


def _message(sid: int, reply: str, headers: bytes, payload: bytes) -> bytes:
    names = f"some.thing {sid} {reply}".strip().encode()
    if not headers:
        return b"MSG %b %d\r\n%b\r\n" % (names, len(payload), payload)
    return b"HMSG %b %d %d\r\n%b%b\r\n" % (names, len(headers), len(headers + payload), headers, payload)


MESSAGES = st.builds(
    _message,
    st.sampled_from([OURS, 2, 11]),
    st.sampled_from(["", "_INBOX.a.1", "$JS.ACK.S.c.1.2.3.4.5", "7"]),
    st.one_of(st.just(b""), HEADERS),
    PAYLOADS,
)
OPERATIONS = st.one_of(
    MESSAGES, MESSAGES, st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b'INFO {"headers": true}\r\n'])
)


class Noted:
    """What nats-py's parser has found, for whom it is the client."""

    def __init__(self) -> None:
        self.found: list[Operation] = []

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, header: bytes | None
    ) -> None:
        self.found.append((sid, subject, reply, header or b"", data))

    async def _process_ping(self) -> None:
        self.found.append(("PING",))

    async def _process_pong(self) -> None:
        self.found.append(("PONG",))

    async def _process_info(self, info: object) -> None:
        self.found.append(("INFO", str(info)))


def by_nats_py(data: bytes) -> list[Operation]:
    noted = Noted()
    asyncio.run(Parser(noted).parse(data))
    return noted.found


@given(st.lists(OPERATIONS, max_size=12), st.lists(st.integers(0, 60), max_size=60))
def test_a_message_is_taken_whole_and_the_rest_passed_on_in_order_wherever_the_bytes_are_cut(
    operations: list[bytes], lengths: list[int]
) -> None:
    taken: list[Operation] = []
    others = bytearray()

    def take(sid: bytes, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> bool:
        if int(sid) == OURS:
            taken.append((OURS, subject, reply, headers, data))
        return int(sid) == OURS

    sieve = Sieve(take, others.extend)
    data = b"".join(operations)
    for length in [*lengths, len(data)]:
        sieve.feed(data[:length])
        data = data[length:]

    found = by_nats_py(b"".join(operations))
    assert taken == [one for one in found if one[0] == OURS]
    assert by_nats_py(bytes(others)) == [one for one in found if one[0] != OURS]


@given(st.lists(st.integers(0, 60), max_size=8))
def test_what_is_no_operation_is_passed_on_as_it_is_for_nats_py_to_refuse(lengths: list[int]) -> None:
    for line in (
        b"MSG a 1 -5",
        b"MSG a x 5",
        b"MSG a 1",
        b"HMSG a 1 5",
        b"msg a 1 2",
        b"",
        b"MSG a b c d e 5",
    ):
        others = bytearray()
        sieve = Sieve(lambda *_: True, others.extend)
        data = line + b"\r\n"
        for length in [*lengths, len(data)]:
            sieve.feed(data[:length])
            data = data[length:]
        assert bytes(others) == line + b"\r\n"


@pytest.mark.parametrize("subject", [b"a\x0bb", b"a\x0cb", b"\xff\xfe", b"\x0b", b"a\x1cb", b"a\tb"])
def test_an_odd_subject_does_not_make_operations_of_the_payload(subject: bytes) -> None:
    forged = b"MSG forged 1 2\r\n{}\r\n"
    taken: list[Operation] = []

    def take(*message: bytes) -> bool:
        taken.append(message)
        return True

    Sieve(take, lambda _: None).feed(b"MSG %b 1 %d\r\n%b\r\n" % (subject, len(forged), forged))
    assert taken == [(b"1", subject, b"", b"", forged)]


def test_a_header_block_of_no_bytes_makes_no_reply_subject_of_its_length() -> None:
    taken: list[Operation] = []
    Sieve(lambda *message: not taken.append(message), lambda _: None).feed(b"HMSG a 1 0 2\r\n{}\r\n")
    assert taken == [(b"1", b"a", b"", b"", b"{}")]


HEADER_LINES = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"A: b", b" A :\tb ", b"A:", b": b", b"A: b:c"])
)


@given(
    st.one_of(
        HEADERS, st.lists(HEADER_LINES).map(lambda lines: b"\r\n".join([b"NATS/1.0", *lines, b"", b""]))
    )
)
def test_headers_are_read_as_nats_py_reads_them(block: bytes) -> None:
    assert read_headers(block) == asyncio.run(Client()._process_headers(block))
