"""No attempt costs more than was held for it, where that can be promised."""

from hypothesis import given
from hypothesis import strategies as st

from router.domain.fleet import IDLE
from router.domain.usage import Usage
from router.pricing.cost import list_cost
from router.pricing.price import ContextTier, LeasedPrice, MeteredPrice, Purchase, TokenRates
from router.pricing.profile import EngineProfile, Speculation
from router.pricing.quote import Lease
from router.pricing.worst_case import ALONE_FACTOR, leased_worst_case, metered_worst_case

PROFILE = EngineProfile(
    step_overhead_seconds=2e-3,
    weight_read_seconds=6e-3,
    kv_read_seconds_per_token=4e-8,
    compute_seconds_per_token=3e-5,
    kv_capacity_tokens=400_000,
)
LEASE = LeasedPrice("l4@2026-01-01#1", 3_600_000_000, Purchase.ON_DEMAND)

rates = st.builds(TokenRates, *[st.integers(0, 10**11)] * 4)
prices = st.builds(
    MeteredPrice,
    st.just("p@2026-01-01#1"),
    rates,
    st.lists(st.builds(ContextTier, st.integers(1, 300_000), rates), max_size=2).map(
        lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.above_prompt_tokens))
    ),
    st.integers(0, 10**9),
    st.integers(0, 10**10),
)


@given(prices, st.integers(0, 400_000), st.integers(0, 100_000), st.integers(0, 5000), st.data())
def test_a_metered_attempt_never_costs_more(
    price: MeteredPrice, prompt: int, completion: int, audio: int, data: st.DataObject
) -> None:
    held = metered_worst_case(price, prompt, completion, float(audio))
    used = data.draw(st.integers(0, prompt))
    cached = data.draw(st.integers(0, used))
    written = data.draw(st.integers(0, used - cached))
    usage = Usage(
        used,
        data.draw(st.integers(0, completion)),
        cached_tokens=cached,
        cache_write_tokens=written,
        audio_seconds=float(data.draw(st.integers(0, audio))),
    )
    assert list_cost(price, usage) <= held


@given(st.integers(0, 100_000), st.integers(0, 32_000))
def test_a_leased_one_is_held_at_twice_its_cost_alone_and_never_at_nothing(prompt: int, completion: int) -> None:
    lease = Lease(LEASE, PROFILE)
    alone = lease.appraise(IDLE, None, prompt, completion).quote.allocated_nanousd
    held = leased_worst_case(lease, prompt, completion, rtt_seconds=0.01)
    assert held >= ALONE_FACTOR * alone
    assert held > 0


def test_what_is_held_where_tokens_are_drafted_is_enough_when_none_of_them_is_right() -> None:
    def drafting(acceptance_ratio: float) -> Lease:
        speculation = Speculation(draft_tokens=3, acceptance_ratio=acceptance_ratio, draft_seconds=0.002)
        return Lease(LEASE, PROFILE.model_copy(update={"speculation": speculation}))

    none_right = drafting(0.0).appraise(IDLE, None, 500, 300).quote.allocated_nanousd
    held = leased_worst_case(drafting(0.8), 500, 300, 0.0)
    assert held >= ALONE_FACTOR * none_right
    assert held == leased_worst_case(drafting(0.0), 500, 300, 0.0)


def test_what_costs_nothing_holds_nothing() -> None:
    assert metered_worst_case(MeteredPrice("free@2026-01-01#1", TokenRates(0, 0, 0, 0)), 1000, 1000) == 0
