"""How the first token of a metered backend depends on the prompt: what is believed at first, and what answers change."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.selection.first_token import (
    GROWTH_PER_TOKEN,
    GROWTHS,
    LEVEL_SECONDS,
    PRIOR_ANSWERS,
    FirstTokens,
)

SECONDS = st.floats(1e-4, 600)
TOKENS = st.floats(0, 1e6)


def taught(*answers: tuple[float, float], times: int = 1) -> FirstTokens:
    """answers: seconds, uncached tokens."""
    one = FirstTokens()
    for _ in range(times):
        for seconds, tokens in answers:
            one.observe(seconds, tokens)
    one.choose()
    return one


def test_before_anything_was_seen_it_is_as_in_the_trace() -> None:
    one = taught()
    assert (one.level_seconds, one.answers) == (pytest.approx(LEVEL_SECONDS), 0.0)
    assert one.seconds_per_token == pytest.approx(LEVEL_SECONDS * GROWTH_PER_TOKEN)


@pytest.mark.parametrize(("level", "per_token"), [(0.2, 1e-4), (1.0, 2e-5), (3.0, 5e-6)])
def test_both_are_learned_from_prompts_of_many_lengths(level: float, per_token: float) -> None:
    answers = [(level + per_token * tokens, tokens) for tokens in (100, 500, 2_000, 8_000, 20_000, 60_000)]
    one = taught(*answers, times=50)
    for seconds, tokens in answers:
        assert one.level_seconds + one.seconds_per_token * tokens == pytest.approx(seconds, rel=0.35)


def test_a_few_answers_change_it_little() -> None:
    one = taught((4.0, 20_000), (0.5, 100))
    assert one.seconds_per_token <= 2 * LEVEL_SECONDS * GROWTH_PER_TOKEN
    assert LEVEL_SECONDS / 2 < one.level_seconds < LEVEL_SECONDS * 1.5


def test_prompts_that_are_all_alike_tell_nothing_of_the_growth() -> None:
    one = taught((0.4, 1_000), (0.6, 1_000), times=500)
    assert one.seconds_per_token == pytest.approx(one.level_seconds * GROWTH_PER_TOKEN)
    assert one.level_seconds + one.seconds_per_token * 1_000 == pytest.approx(0.49, rel=0.05)


def test_that_longer_prompts_were_quicker_by_chance_makes_no_time_negative() -> None:
    one = taught((1.0, 100), (0.2, 50_000), times=100)
    assert one.seconds_per_token == pytest.approx(one.level_seconds * GROWTHS[0])


def test_one_answer_in_twenty_that_took_ten_times_as_long_moves_little() -> None:
    steady = [(0.3 + 5e-5 * tokens, tokens) for tokens in range(500, 20_500, 1_000)]
    odd = [*steady[:-1], (10 * steady[-1][0], steady[-1][1])]
    calm, jolted = taught(*steady, times=20), taught(*odd, times=20)
    for tokens in (500, 10_000):
        expected = calm.level_seconds + calm.seconds_per_token * tokens
        assert jolted.level_seconds + jolted.seconds_per_token * tokens == pytest.approx(expected, rel=0.3)


def test_what_faded_away_leaves_the_prior() -> None:
    one = taught((0.2, 100), (3.0, 20_000), times=200)
    assert one.seconds_per_token > 5e-5
    one.fade(1e-6)
    one.choose()
    assert one.level_seconds == pytest.approx(LEVEL_SECONDS, rel=0.01)
    assert one.seconds_per_token == pytest.approx(LEVEL_SECONDS * GROWTH_PER_TOKEN, rel=0.01)


@given(st.lists(st.tuples(SECONDS, TOKENS), max_size=40), st.floats(0, 1))
def test_whatever_comes_the_figures_are_positive_and_between_prior_and_answers(
    answers: list[tuple[float, float]], kept: float
) -> None:
    one = taught(*answers)
    one.fade(kept)
    one.choose()
    assert 0 <= one.answers <= len(answers)
    # A level is what remains when growth is taken out of an answer, so it is at most the longest.
    assert 0 < one.level_seconds <= max([LEVEL_SECONDS, *(seconds for seconds, _ in answers)]) * (1 + 1e-9)
    assert one.seconds_per_token / one.level_seconds == pytest.approx(
        min(GROWTHS, key=lambda growth: abs(growth - one.seconds_per_token / one.level_seconds))
    )


def test_the_prior_counts_as_so_many_answers() -> None:
    one = FirstTokens()
    one.observe(0.5, 0)
    weight = 1 / (PRIOR_ANSWERS + 1)
    assert one.level_seconds == pytest.approx(LEVEL_SECONDS ** (1 - weight) * 0.5**weight)
