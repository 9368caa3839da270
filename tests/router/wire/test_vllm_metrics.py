"""The metrics of a real vLLM, and of ones that say less, more or nonsense."""

from pathlib import Path

import pytest

from router.domain.fleet import Scrape
from router.wire.vllm_metrics import parse_metrics

RECORDED = Path(__file__).parent / "recorded" / "vllm_metrics.txt"


def test_a_recorded_vllm_is_read() -> None:
    assert parse_metrics(RECORDED.read_bytes(), 7.0) == Scrape(
        at_seconds=7.0,
        running=0,
        waiting=0,
        kv_usage_ratio=0.0,
        prompt_tokens_total=2885,
        completion_tokens_total=4330,
    )


@pytest.mark.parametrize("body", [b"", b"\n", b"<html>no</html>", b"vllm:num_requests_running", b"\xff\xfe\x00"])
def test_what_is_not_said_is_missing_and_not_zero(body: bytes) -> None:
    assert parse_metrics(body, 1.0) == Scrape(at_seconds=1.0)


def test_engines_are_summed_and_their_kv_shares_averaged() -> None:
    body = b"""# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.25
"""
    scrape = parse_metrics(body, 1.0)
    assert (scrape.running, scrape.waiting, scrape.kv_usage_ratio) == (7, None, 0.375)


@pytest.mark.parametrize("value", [b"NaN", b"+Inf", b"-1.0", b"many", b"0x10"])
def test_a_nonsense_sample_makes_its_family_missing_and_no_other(value: bytes) -> None:
    body = b'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_running{engine="1"} ' + value
    body += b"\nvllm:num_requests_waiting 5\n"
    scrape = parse_metrics(body, 1.0)
    assert (scrape.running, scrape.waiting) == (None, 5)


@pytest.mark.parametrize(
    ("line", "running"),
    [
        (b"vllm:num_requests_running 9", 9),
        (b'vllm:num_requests_running{model_name="a}b\\"c d"} 9', 9),
        (b"vllm:num_requests_running{} 9.0e+00", 9),
        (b'vllm:num_requests_running{engine="0"} 9 1795414836319', 9),
        (b'vllm:num_requests_running{engine="0"}\t9\r', 9),
        (b"x vllm:num_requests_running 9", None),
        (b"vllm:num_requests_running_by_reason 9", None),
        (b'vllm:num_requests_running{engine="0} 9', None),
    ],
)
def test_a_sample_is_found_as_the_text_format_allows_it(line: bytes, running: int | None) -> None:
    assert parse_metrics(line, 1.0).running == running


def test_the_old_name_of_the_kv_share_is_read_where_the_new_one_is_absent() -> None:
    assert parse_metrics(b"vllm:gpu_cache_usage_perc 0.5\n", 1.0).kv_usage_ratio == 0.5
    both = b"vllm:gpu_cache_usage_perc 0.5\nvllm:kv_cache_usage_perc 0.25\n"
    assert parse_metrics(both, 1.0).kv_usage_ratio == 0.25
