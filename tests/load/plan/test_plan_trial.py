"""One engine under a load of its own: what users see follows from the profile by arithmetic."""

import pytest

from load.plan.trial import Ask, Conversation, closed_trial, conversations_trial, open_trial, static_trial
from router.pricing.profile import EngineProfile

# 10 ms a step and 1 ms a prompt token, hidden behind nothing.
PLAIN = EngineProfile(
    step_overhead_seconds=0.0099,
    weight_read_seconds=0.0001,
    kv_read_seconds_per_token=0.0,
    compute_seconds_per_token=1e-9,
    token_seconds=0.0,
    kv_capacity_tokens=1_000_000,
    sequences_max=64,
)
SLOW_PROMPTS = PLAIN.model_copy(update={"compute_seconds_per_token": 1e-3})


def same(prompt: int, completion: int):  # type: ignore[no-untyped-def]
    while True:
        yield Ask(prompt, completion)


def test_a_lone_user_gets_a_token_a_step() -> None:
    trial = closed_trial(PLAIN, same(10, 101), 1, requests=8)
    assert trial.percentile("tpot", 50) == pytest.approx(0.01, rel=1e-3)
    assert trial.percentile("ttft", 50) == pytest.approx(0.01, rel=1e-3)
    assert trial.completion_tokens_per_second == pytest.approx(100, rel=0.02)


def test_thirty_two_users_get_thirty_two_tokens_a_step() -> None:
    trial = closed_trial(PLAIN, same(10, 101), 32, requests=256)
    assert trial.completion_tokens_per_second == pytest.approx(3200, rel=0.05)


def test_a_trial_is_decided_by_its_seed() -> None:
    one, again, other = (open_trial(PLAIN, [(10, 20), (30, 40)], 5.0, requests=100, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_shared_beginning_is_computed_once() -> None:
    cold = open_trial(SLOW_PROMPTS, [(160, 2)], 0.5, requests=20)
    warm = open_trial(SLOW_PROMPTS, [(160, 2)], 0.5, requests=20, cached_ratio=0.8)
    assert cold.percentile("ttft", 50) == pytest.approx(0.16, rel=0.1)
    assert warm.percentile("ttft", 50) == pytest.approx(0.032 + 0.01, rel=0.3)
    assert warm.cached_tokens == pytest.approx(0.8 * warm.prompt_tokens)


def test_a_conversation_finds_what_was_said_before_in_the_cache() -> None:
    talk = Conversation(turns=4, new_tokens=32, completion_tokens=32, instruction_tokens=320)
    with_cache = conversations_trial(PLAIN, talk, 4, requests=80)
    without = conversations_trial(PLAIN, talk, 4, requests=80, has_prefix_cache=False)
    # of a turn, all but its 32 new tokens, and what the last block of the answer before lacks
    assert with_cache.cached_tokens / with_cache.prompt_tokens > 0.85
    assert without.cached_tokens == 0
    assert with_cache.prompt_tokens == without.prompt_tokens


def test_of_a_static_batch_all_wait_for_the_longest() -> None:
    trial = static_trial(PLAIN, [(10, 10), (10, 90)], 8, requests=80)
    assert trial.requests == 80
    # half of the places are empty after ten steps of ninety, if any is long
    assert trial.slots_ratio == pytest.approx((10 + 90) / 2 / 90, rel=0.2)


def test_what_is_longer_than_the_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="exceed the KV cache"):
        closed_trial(PLAIN, same(2_000_000, 1), 1, requests=1)
