"""Electricity is power × time × PUE, commitments are paid whether used or not, and what is not known is not guessed."""

from decimal import Decimal

from router.domain.periods import NS_PER_HOUR, Leased
from router.pricing.price import Purchase
from router.reporting.energy import LeaseTerms, commitments, energy

ROW = Leased(0, "edge", "small", "r1", "l4@2026-01-01#0", 1000, 250, 4 * NS_PER_HOUR)


def terms(**members: object) -> dict[str, LeaseTerms]:
    base = {"name": "l4", "purchase": Purchase.OWNED, "list_nanousd_per_hour": 250, "nanousd_per_hour": 250}
    return {ROW.price_id: LeaseTerms(**{**base, **members})}  # type: ignore[arg-type]


def test_one_power_stands_for_busy_and_idle() -> None:
    (found,) = energy([ROW], terms(power_kw=Decimal("0.5"), pue=Decimal("1.5")), {"edge": "eu"}, {"eu": Decimal(400)})
    assert found.kwh == Decimal("0.5") * 4 * Decimal("1.5")
    assert found.grams == found.kwh * 400


def test_idle_hours_draw_idle_power_where_it_is_known() -> None:
    (found,) = energy([ROW], terms(power_kw=Decimal(1), idle_power_kw=Decimal("0.2")), {}, {})
    assert found.kwh == 3 * 1 + 1 * Decimal("0.2")
    assert found.grams is None


def test_unknown_power_is_not_zero() -> None:
    (found,) = energy([ROW], terms(), {}, {})
    assert (found.kwh, found.hours_unknown) == (None, 4)
    (found,) = energy([ROW], {}, {}, {})
    assert (found.kwh, found.hours_unknown) == (None, 4)


def test_a_commitment_is_used_or_not_and_both_are_paid() -> None:
    (found,) = commitments([ROW, ROW], terms(purchase=Purchase.RESERVED))
    assert (found.hours, found.paid_nanousd, found.used_nanousd, found.unused_nanousd) == (8, 2000, 1500, 500)
    assert commitments([ROW], terms()) == []
