"""Forecasts: what the engine profile says of a replica with this much work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.domain.fleet import IDLE, Load, Scrape
from router.pricing.forecast import Occupancy, Pace, forecast_tpot_seconds, forecast_ttft_seconds, occupancy
from router.pricing.mix import CHAT
from router.pricing.profile import Speculation


def decoding(attempts: int, context_tokens: int = 1000) -> Load:
    return Load(attempts=attempts, decoding=attempts, context_tokens=attempts * context_tokens)


def test_an_idle_replica_answers_after_one_prefill_step_and_the_network() -> None:
    expected = 0.03 + H100_8B.step_seconds(0, 0, 1000)
    assert forecast_ttft_seconds(H100_8B, IDLE, None, 1000, 0.03) == pytest.approx(expected)


def test_a_long_prompt_is_prefilled_in_chunks() -> None:
    chunk = H100_8B.chunk_tokens
    expected = 2 * H100_8B.step_seconds(0, 0, chunk) + H100_8B.step_seconds(0, 0, 5)
    assert forecast_ttft_seconds(H100_8B, IDLE, None, 2 * chunk + 5) == pytest.approx(expected)


def test_prompts_ahead_are_prefilled_first() -> None:
    queued = Load(attempts=2, prefill_tokens=3000)
    assert forecast_ttft_seconds(H100_8B, queued, None, 1000) == pytest.approx(
        forecast_ttft_seconds(H100_8B, IDLE, None, 4000)
    )


def test_half_of_the_step_under_way_is_waited_for() -> None:
    busy = decoding(8)
    expected = H100_8B.step_seconds(8, 8000, 0) / 2 + H100_8B.step_seconds(8, 8000, 500)
    assert forecast_ttft_seconds(H100_8B, busy, None, 500) == pytest.approx(expected)


def test_without_a_free_slot_a_sequence_must_end_first() -> None:
    profile = H100_8B.model_copy(update={"sequences_max": 8})
    step = profile.step_seconds(8, 8000, 0)
    expected = step * (0.5 + CHAT.completion_tokens / 8) + profile.step_seconds(8, 8000, 500)
    assert forecast_ttft_seconds(profile, decoding(8), None, 500) == pytest.approx(expected)


def test_a_full_kv_cache_makes_a_request_wait_though_slots_are_free() -> None:
    # 600 tokens too many, while 9,600 are held by eight: half of one must end.
    profile = H100_8B.model_copy(update={"kv_capacity_tokens": 10_000})
    step = profile.step_seconds(8, 9600, 0)
    expected = step * (0.5 + 0.5 * CHAT.completion_tokens / 8) + profile.step_seconds(8, 9600, 1000)
    assert forecast_ttft_seconds(profile, decoding(8, 1200), None, 1000) == pytest.approx(expected)


def test_tpot_is_a_step_with_this_request_in_it() -> None:
    expected = H100_8B.step_seconds(9, 8000 + 500 + 100, 0)
    assert forecast_tpot_seconds(H100_8B, decoding(8), None, 500, 200) == pytest.approx(expected)


def test_the_batch_is_never_taken_for_larger_than_the_engine_allows() -> None:
    crowd = decoding(10_000)
    expected = H100_8B.step_seconds(H100_8B.sequences_max, H100_8B.kv_capacity_tokens, 0)
    assert forecast_tpot_seconds(H100_8B, crowd, None, 500) == pytest.approx(expected)


def test_without_a_scrape_our_own_work_is_what_there_is() -> None:
    load = Load(attempts=3, prefill_tokens=700, decoding=2, context_tokens=900)
    expected = Occupancy(decoding=2, prefilling=1, context_tokens=900, prefill_tokens=700)
    assert occupancy(H100_8B, load, None) == expected
    # A scrape that says nothing is no scrape of nothing.
    assert occupancy(H100_8B, load, Scrape(at_seconds=0.0)) == expected


def test_other_people_s_work_counts_too() -> None:
    load = Load(attempts=2, prefill_tokens=0, decoding=2, context_tokens=800)
    found = occupancy(H100_8B, load, Scrape(at_seconds=0.0, running=5, waiting=1, ours=load))
    assert found.decoding == 5
    assert found.prefilling == 1
    assert found.prefill_tokens == CHAT.prompt_tokens
    assert found.context_tokens == 800 + round(3 * CHAT.context_tokens)


def test_a_full_cache_is_believed_whoever_filled_it() -> None:
    found = occupancy(H100_8B, IDLE, Scrape(at_seconds=0.0, running=4, waiting=0, kv_usage_ratio=0.5))
    assert found.context_tokens == H100_8B.kv_capacity_tokens // 2


def test_our_own_newest_work_is_not_hidden_by_an_older_scrape() -> None:
    load = decoding(6)
    assert occupancy(H100_8B, load, Scrape(at_seconds=0.0, running=0, waiting=0, kv_usage_ratio=0.0)).decoding == 6


def test_what_we_sent_since_the_scrape_comes_on_top_of_other_peoples_work() -> None:
    # Nobody herds: to a replica that had ten of others' when it was scraped, ten of ours make twenty, not ten.
    scrape = Scrape(at_seconds=0.0, running=10, waiting=0)
    assert [occupancy(H100_8B, decoding(own), scrape).decoding for own in (0, 5, 10)] == [10, 15, 20]


def test_what_was_ours_at_the_scrape_and_has_ended_since_is_gone() -> None:
    scrape = Scrape(at_seconds=0.0, running=8, waiting=2, kv_usage_ratio=0.1, ours=Load(6, 0, 6, 6000))
    found = occupancy(H100_8B, IDLE, scrape)
    assert (found.decoding, found.prefilling) == (2, 2)
    assert found.context_tokens == int(0.1 * H100_8B.kv_capacity_tokens) - 6000


loads = st.builds(
    Load,
    attempts=st.integers(0, 2000),
    prefill_tokens=st.integers(0, 10**6),
    decoding=st.integers(0, 2000),
    context_tokens=st.integers(0, 10**7),
)
scrapes = st.one_of(
    st.none(),
    st.builds(
        Scrape,
        at_seconds=st.just(0.0),
        running=st.none() | st.integers(0, 2000),
        waiting=st.none() | st.integers(0, 2000),
        kv_usage_ratio=st.none() | st.floats(0, 1),
    ),
)


@given(loads, scrapes, st.integers(0, 10**6))
def test_every_forecast_is_a_time_whatever_the_figures(load: Load, scrape: Scrape | None, prompt_tokens: int) -> None:
    assert 0 < forecast_ttft_seconds(H100_8B, load, scrape, prompt_tokens) < 1e7
    assert 0 < forecast_tpot_seconds(H100_8B, load, scrape, prompt_tokens) < 10


@given(
    st.integers(0, 300),
    st.integers(0, 10**6),
    st.integers(1, 8000),
    st.sampled_from([None, Speculation(draft_tokens=3, acceptance_ratio=0.7, draft_seconds=1e-3)]),
    st.sampled_from([0.0, 5e-3]),
)
def test_the_step_that_a_prompt_waits_for_is_the_profile_s(
    sequences: int, context_tokens: int, tokens: int, speculation: Speculation | None, experts: float
) -> None:
    """`Pace` takes a step apart, so that it costs less; together it is the same step."""
    profile = H100_8B.model_copy(
        update={
            "speculation": speculation, "expert_read_seconds": experts, "expert_miss_ratio": 0.9, "token_seconds": 1e-6,
            "prefill_overhead_seconds": 1e-3, "sequences_max": 500, "kv_capacity_tokens": 10**7,
        }
    )  # fmt: skip
    busy = Occupancy(sequences, 0, context_tokens, 0)
    awaited = profile.step_seconds(sequences, context_tokens, 0) / 2 if sequences else 0.0
    chunk = max(profile.chunk_tokens - sequences, 1)
    full, rest = divmod(tokens, chunk)
    steps = full * profile.step_seconds(sequences, context_tokens, chunk)
    steps += profile.step_seconds(sequences, context_tokens, rest) if rest else 0.0
    assert Pace(profile, busy).ttft_seconds(tokens) == pytest.approx(awaited + steps)


def test_a_token_waits_for_the_prompts_that_take_the_place_of_those_that_end() -> None:
    """Thirty-two that each hold 1,000 + 100 tokens, of 200 to come: each is followed by a prompt of 1,000 within 200 steps."""
    profile = H100_8B.model_copy(update={"token_seconds": 1e-6})  # which hides behind nothing
    pace = Pace(profile, Occupancy(32, 0, 32 * 1100, 0))
    present = pace.tpot_seconds_of_present(1000, 200)
    assert present == pytest.approx(profile.step_seconds(33, 33 * 1100, 0))
    assert pace.tpot_seconds(1000, 200) == pytest.approx(profile.step_seconds(33, 33 * 1100, 32 * 1000 // 200))
    # What is cached is not read again, of the others as of this one.
    assert present < pace.tpot_seconds(1000, 200, cached_ratio=0.5) < pace.tpot_seconds(1000, 200)
    assert pace.tpot_seconds(1000, 200, cached_ratio=1.0) == present
    # Alone there is nobody whose place is taken.
    assert Pace(H100_8B, Occupancy(0, 0, 0, 0)).tpot_seconds(1000, 200) == pytest.approx(
        H100_8B.step_seconds(1, 1100, 0)
    )


@given(st.integers(0, 255), st.integers(1, 255), st.integers(1, 20_000))
def test_more_work_never_makes_a_replica_quicker(some: int, more: int, prompt_tokens: int) -> None:
    # Nearly: the budget of a step is shared with the sequences that decode, so a chunk's rounding may hide one of them.
    less_busy, busier = decoding(some), decoding(some + more)
    allowance = H100_8B.step_overhead_seconds
    assert forecast_ttft_seconds(H100_8B, busier, None, prompt_tokens) > (
        forecast_ttft_seconds(H100_8B, less_busy, None, prompt_tokens) - allowance
    )
    assert forecast_tpot_seconds(H100_8B, busier, None, prompt_tokens) >= (
        forecast_tpot_seconds(H100_8B, less_busy, None, prompt_tokens)
    )
