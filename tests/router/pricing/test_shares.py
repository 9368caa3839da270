"""How a step's time is shared: it adds up, costs nobody less than nothing, and comes near Shapley's value."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from load.engine import StepMember
from load.engine.shares import shapley_seconds, shares_of_step, step_of
from router.pricing.profile import Speculation

SPECULATING = H100_8B.model_copy(
    update={"speculation": Speculation(draft_tokens=4, acceptance_ratio=0.7, draft_seconds=1e-3)}
)
MEMBERS = st.lists(
    st.one_of(
        st.builds(StepMember, st.integers(1, 100_000), st.just(0), st.just(0)),
        st.builds(StepMember, st.just(0), st.integers(1, 8000), st.integers(0, 10**7)),
    ),
    min_size=1,
    max_size=12,
)


@given(MEMBERS, st.booleans())
def test_the_shares_of_a_step_are_its_time(members: list[StepMember], is_speculating: bool) -> None:
    profile = SPECULATING if is_speculating else H100_8B
    shares = shares_of_step(profile, members)
    assert sum(shares) == pytest.approx(step_of(profile, members), rel=1e-9)
    assert min(shares) > 0


@given(MEMBERS)
def test_more_work_never_costs_less_beside_the_same_others(members: list[StepMember]) -> None:
    first, *others = members
    more = StepMember(first.context_tokens * 2, first.prefill_tokens * 2, first.prefill_pairs * 2)
    assert shares_of_step(H100_8B, [more, *others])[0] >= shares_of_step(H100_8B, members)[0] * (1 - 1e-9)


@pytest.mark.parametrize("prompts", [(), (200,), (2000,), (300, 500), (8000,)])
def test_the_rule_comes_near_shapleys_value(prompts: tuple[int, ...]) -> None:
    members = [StepMember(500 * (position + 1), 0, 0) for position in range(8)]
    members += [StepMember(0, tokens, 0) for tokens in prompts]
    exact = shapley_seconds(members, lambda some: step_of(H100_8B, some), 200, Random(1))
    for ours, theirs in zip(shares_of_step(H100_8B, members), exact, strict=True):
        assert ours == pytest.approx(theirs, rel=0.2)


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=300), st.booleans())
def test_what_one_decode_pays_is_the_rule_for_steps_without_prompts(contexts: list[int], is_speculating: bool) -> None:
    profile = SPECULATING if is_speculating else H100_8B
    shares = shares_of_step(profile, [StepMember(context, 0, 0) for context in contexts])
    alike, by_caches = profile.batch_steps(len(contexts)).decode_shares(sum(contexts))
    assert alike + by_caches * contexts[0] / sum(contexts) == pytest.approx(shares[0], rel=1e-9)
