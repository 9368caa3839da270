"""The meter that knows only totals says of them, to the nano-dollar, what the router's own meter says of the same history."""

from random import Random

import pytest

from load.simulate.total_meter import TotalMeter
from router.pricing.meter import ReplicaMeter


@pytest.mark.parametrize("seed", range(20))
def test_totals_are_those_of_the_meter_that_charges_each_attempt(seed: int) -> None:
    random = Random(seed)
    meter = ReplicaMeter(random.choice([1, 800_000_000, 7_560_000_001]), 0)
    total: TotalMeter | None = None
    taken_over_at = random.randrange(100)
    open_attempts: list[str] = []
    at_ns = 0
    for event in range(300):
        at_ns += random.choice([0, 1, 997, 10**6, 10**9])
        if event == taken_over_at:
            meter.advance(at_ns)
            total = TotalMeter(meter)
        lot = random.random()
        if not open_attempts or lot < 0.35:
            if total is not None and not open_attempts:
                total.begin(at_ns)
            meter.open(f"a{event}", random.randrange(1, 10**9), at_ns)
            open_attempts.append(f"a{event}")
        elif lot < 0.6:
            meter.reweigh(
                random.choice(open_attempts), random.randrange(1, 10**9), at_ns, random.randrange(1000),
                random.choice([0, 10**6]), random.randrange(-(10**6), 10**6),
            )  # fmt: skip
        else:
            attempt = open_attempts.pop(random.randrange(len(open_attempts)))
            meter.close(attempt, at_ns, random.choice([0, 10**5]))
            if total is not None and not open_attempts:
                total.end(at_ns)
        if total is not None and random.random() < 0.1:
            meter.advance(at_ns)
            assert total.paid(at_ns, is_idle=not open_attempts) == (meter.bill_nanousd, meter.idle_nanousd)
    assert total is not None
    at_ns += 10**9
    for attempt in open_attempts:
        meter.close(attempt, at_ns)
    if open_attempts:
        total.end(at_ns)
    assert total.charged_nanousd == meter.charged_nanousd
    at_ns += 12_345_678_901
    meter.advance(at_ns)
    assert total.paid(at_ns, is_idle=True) == (meter.bill_nanousd, meter.idle_nanousd)
