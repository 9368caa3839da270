"""What a token costs just now: five minutes of served attempts, by class, on both bases."""

from bookkeeping import SECOND, facts
from prometheus_client import CollectorRegistry

from router.domain.attempt import AttemptStatus, Charge, CostStatus
from router.domain.usage import Usage
from router.telemetry.prices import RecentPrices

NAME = "jeton_token_cost_usd_per_million"
START = 1_795_000_000 * SECOND


def charge(ended_ns: int, status: AttemptStatus = AttemptStatus.OK, **members: object) -> Charge:
    return Charge(
        **{
            "facts": facts("req_1"), "billing": "leased", "price_id": "p", "opened_ns": 0, "first_token_ns": None,
            "ended_ns": ended_ns, "status": status, "fault": "", "http_status": 200, "usage": Usage(1000, 100, 400),
            "cost_status": CostStatus.PRICED, "cost_nanousd": 10_000, "standard_nanousd": 5_000,
            "cost_prompt_nanousd": 3_000, "cost_cached_nanousd": 1_000, "standard_prompt_nanousd": 1_200,
            "standard_cached_nanousd": 400, **members,
        }  # type: ignore[arg-type]
    )  # fmt: skip


def price(prices: RecentPrices, token_class: str, basis: str) -> float | None:
    registry = CollectorRegistry()
    registry.register(prices)
    labels = {"pool": "edge", "backend": "edge-small", "class": token_class, "basis": basis}
    return registry.get_sample_value(NAME, labels)


def test_prices_by_class_and_basis() -> None:
    prices = RecentPrices(lambda: START)
    prices.count(charge(START))
    prices.count(charge(START))
    assert price(prices, "prompt", "allocated") == 3_000 / 600 / 1000  # dollars a million: nano-dollars a thousand
    assert price(prices, "cached", "allocated") == 1_000 / 400 / 1000
    assert price(prices, "completion", "allocated") == 6_000 / 100 / 1000
    assert price(prices, "prompt", "standard") == 1_200 / 600 / 1000
    assert price(prices, "completion", "standard") == 3_400 / 100 / 1000


def test_what_is_older_than_five_minutes_is_forgotten() -> None:
    now_ns = START
    prices = RecentPrices(lambda: now_ns)
    prices.count(charge(START))
    now_ns += 290 * SECOND
    assert price(prices, "prompt", "allocated") is not None
    now_ns += 20 * SECOND
    assert price(prices, "prompt", "allocated") is None
    for second in range(0, 3600, 5):
        prices.count(charge(START + second * SECOND))
    assert len(prices._slots) <= 31


def test_only_served_attempts_whose_parts_are_known_count() -> None:
    prices = RecentPrices(lambda: START)
    prices.count(charge(START, AttemptStatus.FAILED))
    prices.count(charge(START, cost_prompt_nanousd=None))
    prices.count(charge(START, cost_nanousd=None))
    assert price(prices, "prompt", "allocated") is None


def test_a_class_without_tokens_has_no_price() -> None:
    prices = RecentPrices(lambda: START)
    prices.count(charge(START, usage=Usage(1000, 0)))
    assert price(prices, "completion", "allocated") is None
    assert price(prices, "prompt", "allocated") is not None


def test_the_contract_of_the_gauge() -> None:
    (family,) = RecentPrices().describe()
    assert (family.name, family.type) == (NAME, "gauge")
    assert "last five minutes" in family.documentation
    prices = RecentPrices(lambda: START)
    prices.count(charge(START))
    (family,) = prices.collect()
    assert {frozenset(sample.labels) for sample in family.samples} == {frozenset({"pool", "backend", "class", "basis"})}
