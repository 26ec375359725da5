"""Counting and naming, without a connection."""

from planter_protocol.services import Endpoint, error_headers, pairs, subjects_of


def test_an_endpoint_counts_requests_errors_and_nanoseconds() -> None:
    from time import perf_counter_ns

    endpoint = Endpoint("diff", "plan.session.*.diff", "planter")
    before = endpoint.stats()
    endpoint.count(perf_counter_ns() - 1_000_000)
    endpoint.count(perf_counter_ns(), "400:it\nis\twrong")

    assert (before.num_requests, before.average_processing_time) == (0, 0)
    after = endpoint.stats()
    assert (after.num_requests, after.num_errors, after.last_error) == (2, 1, "400:it is wrong")
    assert after.processing_time >= 1_000_000
    assert after.average_processing_time == after.processing_time // 2


def test_an_error_header_is_one_ascii_line() -> None:
    headers = error_headers("400", "a\r\nNats-Forged: b — " + "x" * 500)

    assert headers["Nats-Service-Error"].startswith("a Nats-Forged: b ? xxx")
    assert len(headers["Nats-Service-Error"]) == 200


def test_a_service_is_asked_on_three_subjects() -> None:
    assert subjects_of("PING", "planter-runtime", "r1") == (
        "$SRV.PING",
        "$SRV.PING.planter-runtime",
        "$SRV.PING.planter-runtime.r1",
    )
    assert pairs({"zone": "a", "os": "linux"}) == "os=linux,zone=a"
