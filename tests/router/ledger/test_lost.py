"""What bought no answer: one definition, in Python and in SQL."""

from ledgers import Place

from router.domain.attempt import AttemptStatus, Outcome, outcome_of
from router.ledger.rows import IS_LOST, OUTCOME

FAULTS = ("", "client_gone", "deadline", "not_accepted", "shutdown", "reset", "router_died")


def test_the_ledger_and_the_program_agree_on_what_an_attempt_bought(place: Place) -> None:
    place.open().close()
    for status in AttemptStatus:
        for fault in FAULTS:
            [(outcome, is_lost)] = place.rows(
                f"SELECT {OUTCOME}, {IS_LOST} FROM (SELECT '{status}' AS status, '{fault}' AS fault) AS one"
            )
            assert (outcome, bool(is_lost)) == (outcome_of(status, fault), outcome_of(status, fault).is_lost)


def test_only_a_client_that_left_was_served_by_half_an_answer() -> None:
    lost = {(status, fault) for status in AttemptStatus for fault in FAULTS if outcome_of(status, fault).is_lost}
    assert {status for status, _ in lost} == set(AttemptStatus) - {AttemptStatus.OK}
    assert (AttemptStatus.CANCELLED, "client_gone") not in lost
    assert {fault for status, fault in lost if status is AttemptStatus.CANCELLED} == set(FAULTS) - {"client_gone"}
    assert outcome_of(AttemptStatus.OK, "") is Outcome.SERVED
