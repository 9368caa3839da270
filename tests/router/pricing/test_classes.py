"""The parts of a cost by class of token sum to it, and follow what the engine did."""

from bookkeeping import PROFILE
from hypothesis import given
from hypothesis import strategies as st

from router.domain.usage import Usage
from router.pricing.classes import cut, leased_parts, rated_parts
from router.pricing.price import TokenRates

amounts = st.integers(0, 10**15)
tokens = st.integers(0, 10**6)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    prompt = draw(tokens)
    cached = draw(st.integers(0, prompt))
    return Usage(prompt, draw(tokens), cached, cache_write_tokens=draw(st.integers(0, prompt - cached)))


weights = st.integers(0, 10**18) | st.floats(0, 1e6)


@given(amounts, weights, weights, weights)
def test_a_whole_is_cut_without_a_rest(whole: int, prompt: float, cached: float, completion: float) -> None:
    parts = cut(whole, prompt, cached, completion)
    assert sum(parts) == whole
    assert all(part >= 0 for part in parts)


@given(amounts, st.none() | amounts, usages())
def test_a02_the_classes_of_a_leased_cost_sum_to_it(cost: int, prefill: int | None, usage: Usage) -> None:
    parts = leased_parts(cost, prefill, PROFILE, usage)
    assert sum(parts) == cost
    assert min(parts) >= 0


@given(amounts, usages(), st.tuples(*[st.integers(0, 10**12)] * 4))
def test_a02_the_classes_of_a_rated_cost_sum_to_it(cost: int, usage: Usage, rates: tuple[int, int, int, int]) -> None:
    parts = rated_parts(cost, TokenRates(*rates), usage)
    assert sum(parts) == cost
    assert min(parts) >= 0


def test_what_ran_up_before_the_first_token_is_the_prompts() -> None:
    assert leased_parts(1000, 300, PROFILE, Usage(100, 50)) == (300, 0, 700)


def test_an_output_token_is_dearer_alone_than_by_any_fixed_ratio() -> None:
    """Without a first token the cut is by the engine-seconds of each class."""
    prompt, cached, completion = leased_parts(10**9, None, PROFILE, Usage(1000, 1000, 500))
    assert completion > prompt > cached > 0


def test_a_cost_without_tokens_is_the_prompts() -> None:
    assert rated_parts(500, TokenRates(1, 1, 1, 1), Usage(0, 0)) == (500, 0, 0)


def test_a20_reasoning_is_a_part_of_completion_and_not_added() -> None:
    rates = TokenRates(10, 1, 10, 20)
    assert rated_parts(900, rates, Usage(10, 40, reasoning_tokens=30)) == rated_parts(900, rates, Usage(10, 40))
