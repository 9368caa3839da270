"""Many clusters against one: what follows from the hours of the day and from bursts."""

import dataclasses

import pytest

from load.scenarios.sites import Sites, sized

FLAT = Sites(
    sites=24,
    requests_per_minute=1000.0,
    hours=[1.0] * 24,
    zones=1,
    dispersion_ratio=1e-6,  # minutes are all alike
    replica_per_minute=100.0,
)
DAY_AND_NIGHT = [0.5] * 12 + [1.5] * 12


def test_an_even_load_takes_its_mean_everywhere() -> None:
    found = sized(dataclasses.replace(FLAT, requests_per_minute=999.0), 0.8, 1)
    assert (found.edge, found.central) == (24 * 10, 240)
    assert found.edge_utilization_ratio == pytest.approx(0.999, abs=1e-3)


def test_in_one_time_zone_the_centre_has_the_same_evening() -> None:
    found = sized(dataclasses.replace(FLAT, hours=DAY_AND_NIGHT), 0.8, 1)
    assert found.edge == pytest.approx(24 * 15, abs=24)
    assert found.central == pytest.approx(360, abs=2)


def test_around_the_world_the_centre_has_none() -> None:
    found = sized(dataclasses.replace(FLAT, hours=DAY_AND_NIGHT, zones=24), 0.8, 1)
    assert found.central == pytest.approx(240, abs=2)
    assert found.edge_utilization_ratio == pytest.approx(1 / 1.5, abs=0.05)


def test_bursts_of_independent_sites_even_out() -> None:
    bursty = dataclasses.replace(FLAT, dispersion_ratio=100.0)
    found = sized(bursty, 0.8, 1)
    # the thousandth minute of one site is 2.2 times its mean, of 24 together 1.2 times
    assert found.central_utilization_ratio == pytest.approx(1 / 1.2, rel=0.1)
    assert found.edge_utilization_ratio == pytest.approx(1 / 2.2, rel=0.15)


def test_the_hybrid_answers_at_the_sites_what_it_must_and_costs_between_the_two() -> None:
    told = dataclasses.replace(FLAT, hours=DAY_AND_NIGHT, zones=24, dispersion_ratio=20.0)
    found = sized(told, 0.8, 1)
    assert found.hybrid_edge_ratio >= 0.8
    assert found.central <= found.hybrid <= found.edge
    assert sized(told, 0.0, 1).hybrid == found.central


def test_the_same_seed_gives_the_same_fleets() -> None:
    told = dataclasses.replace(FLAT, dispersion_ratio=20.0)
    assert sized(told, 0.8, 3) == sized(told, 0.8, 3)
