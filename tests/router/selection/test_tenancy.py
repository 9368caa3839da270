"""Where a tenant may go, and what is said of the rest."""

from dataclasses import replace

import pytest

from router.errors import Forbidden
from router.selection.tenancy import Tenancy

ACME = "acme"


def candidates_of(found) -> set[str]:
    return {candidate.backend.name for candidate in found[0]}


def said(found) -> dict[str, str]:
    return {exclusion.backend: exclusion.why for exclusion in found[1]}


def test_a_dedicated_backend_serves_its_tenants_and_nobody_else(fleet, ask) -> None:
    fleet.change("edge-small", dedicated_to=frozenset({ACME}))
    assert "edge-small" in candidates_of(fleet.find(ask(), tenancy=Tenancy(ACME)))
    for stranger in (Tenancy("initech"), None):
        found = fleet.find(ask(), tenancy=stranger)
        assert candidates_of(found) == {"edge-large", "cloud-large"}
        assert said(found) == {"edge-small": "dedicated to other tenants"}  # whose, is nobody's business


def test_an_isolated_tenant_goes_nowhere_else(fleet, ask) -> None:
    fleet.change("edge-small", dedicated_to=frozenset({ACME}))
    found = fleet.find(ask(), tenancy=Tenancy(ACME, is_isolated=True))
    assert candidates_of(found) == {"edge-small"}
    assert set(said(found).values()) == {"shared with other tenants, and this one is isolated"}


def test_a_tenant_keeps_to_its_pools(fleet, ask) -> None:
    found = fleet.find(ask(), tenancy=Tenancy(ACME, pools=frozenset({"cloud"})))
    assert candidates_of(found) == {"cloud-large"}
    assert said(found)["edge-small"] == "the pool edge is not open to this tenant"


def test_data_stays_where_it_may_be(fleet, ask) -> None:
    for backend in list(fleet.backends):
        where = {"edge": "eu", "cloud": ""}[backend.pool.name]
        fleet.change(backend.name, pool=replace(backend.pool, residency=where))
    found = fleet.find(ask(), tenancy=Tenancy(ACME, residencies=frozenset({"eu", "ch"})))
    assert candidates_of(found) == {"edge-small", "edge-large"}
    assert said(found) == {"cloud-large": "data would be in an undeclared place, and may only be in ch, eu"}


def test_when_nothing_is_open_the_refusal_says_why(fleet, ask) -> None:
    with pytest.raises(Forbidden, match="edge-small: the pool edge is not open to this tenant; ") as refused:
        fleet.find(ask(), tenancy=Tenancy(ACME, pools=frozenset({"moon"})))
    assert refused.value.status == 403
    assert "Nothing that serves 'auto' and can do chat is open to" in refused.value.message


def test_two_tenants_rules_are_not_confused(fleet, ask) -> None:
    finder = fleet.finder()
    for _ in range(2):
        for pool, names in (("cloud", {"cloud-large"}), ("edge", {"edge-small", "edge-large"})):
            tenancy = Tenancy(pool, pools=frozenset({pool}))
            assert candidates_of(fleet.find(ask(), tenancy=tenancy, finder=finder)) == names
        assert len(candidates_of(fleet.find(ask(), finder=finder))) == 3


def test_a_round_trip_is_that_of_the_client_s_region(fleet, ask) -> None:
    near = fleet.find(ask())[0]
    for backend in list(fleet.backends):
        fleet.change(backend.name, pool=replace(backend.pool, rtt_seconds_from=(("mars", 5.0),)))
    far = fleet.find(ask(), tenancy=Tenancy(ACME, region="mars"))[0]
    elsewhere = fleet.find(ask(), tenancy=Tenancy(ACME, region="venus"))[0]
    for one, other, third in zip(near, far, elsewhere, strict=True):
        rtt_seconds = one.backend.pool.rtt_seconds
        assert other.ttft_seconds == pytest.approx(one.ttft_seconds - rtt_seconds + 5.0)
        assert third.ttft_seconds == one.ttft_seconds
