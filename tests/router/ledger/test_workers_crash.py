"""kill -9 of workers and of the accountant among them: what was told is booked once, what was open is lost and flagged, and the
books balance."""

import asyncio
import os
import random
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from audited import assert_audit_is_clean
from bookkeeping import assert_file_is_consistent
from busy_workers import Busy, booked_events, take_up, until
from ledgers import Place

from router.accounting.rebuild import rebuild
from router.ledger.schema import open_shared

WORKERS = 3
KILLS_EACH = 10
# `make test-crash` asks for more of them.
LEDGERS = max(int(os.environ.get("JETON_TEST_KILLS", "0")) // KILLS_EACH, 1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(LEDGERS))
def test_a13_f29_f30_workers_and_accountants_killed_at_any_moment_leave_one_charge_for_each_attempt(
    place: Place, number: int
) -> None:
    address = place.address
    chance = random.Random(20261126 + number)
    seeds = iter(range(1000 * number, 1000 * (number + 1)))
    with closing(open_shared(address)):
        pass  # there it is
    busy = [Busy(place, next(seeds)) for _ in range(WORKERS)]
    said: list[tuple[str, str]] = []
    whom = ["accountant", "worker", "both"]
    try:
        until(lambda: all(any(word == "told" for word, _ in one.said()) for one in busy))
        for kill in range(KILLS_EACH):
            booked = booked_events(place)
            until(lambda booked=booked: booked_events(place) > booked)  # somebody leads, and gets on
            time.sleep(chance.random() * 0.3)
            keeps = [one for one in busy if one.leads()]
            others = [one for one in busy if one not in keeps]
            victims = {"accountant": keeps, "worker": others[:1], "both": [*keeps, *others[:1]]}[whom[kill % 3]]
            for victim in victims:
                victim.kill()
                said += victim.said()
                busy.remove(victim)
            assert_audit_is_clean(address)  # as the kill left it, with all that is open and not booked
            busy += [Busy(place, next(seeds)) for _ in victims]
        for one in busy:
            one.kill()
            said += one.said()
    finally:
        for one in busy:
            with suppress(ProcessLookupError):
                one.process.kill()
            one.process.wait()
    asyncio.run(take_up(address))
    if isinstance(address, Path):
        assert_file_is_consistent(address, is_quiet=True)
    found = assert_audit_is_clean(address)
    assert found.open_attempts == 0
    charges = {
        attempt_id: (status, source, cost)
        for attempt_id, status, source, cost in place.rows(
            "SELECT attempt_id, status, usage_source, cost_nanousd FROM charges"
        )
    }
    corrected = {attempt_id for (attempt_id,) in place.rows("SELECT attempt_id FROM corrections")}
    assert place.rows("SELECT count(*) FROM reports") == [(0,)]
    assert {name for word, name in said if word == "durable"} <= charges.keys()
    told = {name for word, name in said if word == "told"}
    assert told
    assert {name for name in told if charges[name][0] != "ok"} <= corrected
    assert {source for status, source, _ in charges.values() if status == "lost"} == {"estimated"}
    assert None not in {cost for _, _, cost in charges.values()}
    shown = max(int(amount) for word, amount in said if word == "posted")
    assert sum(cost for _, _, cost in charges.values()) >= shown > 0
    rebuild(address, place.directory / "rebuilt.sqlite")
    assert_audit_is_clean(place.directory / "rebuilt.sqlite")
