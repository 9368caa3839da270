"""The health of a replica as a script of reports and the verdicts that they lead to."""

import pytest

from router.domain.fleet import UP, Health, HealthState, Replica
from router.fleet.health import CHECKS_TO_DOWN, HealthBook, HealthRules

RULES = HealthRules(failures_to_eject=5, ejection_seconds=30.0, cooldown_seconds_max=60.0)
A = Replica("a/0", "a", "http://10.0.0.1:8000")


@pytest.fixture
def book() -> HealthBook:
    book = HealthBook()
    book.configure([A], RULES)
    return book


def fail(book: HealthBook, times: int, now: float) -> None:
    for _ in range(times):
        book.failed(A.id, "http_500", now)


def test_a_new_replica_is_up(book: HealthBook) -> None:
    assert book.health(A.id, 0.0) == UP


def test_f06_a_429_cools_for_its_retry_after_and_does_not_eject(book: HealthBook) -> None:
    for _ in range(10):
        book.limited(A.id, 7.0, 100.0)
    health = book.health(A.id, 100.0)
    assert (health.state, health.until_seconds, health.admits(106.9)) == (HealthState.LIMITED, 107.0, False)
    assert health.admits(107.0)
    assert book.health(A.id, 107.0) == UP


@pytest.mark.parametrize(("retry_after", "until"), [(3600.0, 160.0), (60.0, 160.0), (None, 101.0), (2.5, 102.5)])
def test_f06_the_cooling_is_capped_and_never_absent(book: HealthBook, retry_after: float | None, until: float) -> None:
    book.limited(A.id, retry_after, 100.0)
    assert book.health(A.id, 100.0).until_seconds == until


@pytest.mark.parametrize("retry_after", [0.0, -5.0])
def test_f06_a_429_that_may_be_tried_again_at_once_does_not_take_the_replica_out(
    book: HealthBook, retry_after: float
) -> None:
    book.limited(A.id, retry_after, 100.0)
    assert book.health(A.id, 100.0) == UP


def test_f06_a_second_429_never_shortens_the_first(book: HealthBook) -> None:
    book.limited(A.id, 50.0, 100.0)
    book.limited(A.id, 1.0, 100.0)
    assert book.health(A.id, 100.0).until_seconds == 150.0


def test_f07_five_failures_in_a_row_eject_for_thirty_seconds(book: HealthBook) -> None:
    fail(book, 4, 100.0)
    assert book.health(A.id, 100.0) == UP
    fail(book, 1, 100.0)
    health = book.health(A.id, 100.0)
    assert (health.state, health.until_seconds) == (HealthState.EJECTED, 130.0)
    assert "http_500" in health.why


def test_f07_an_answer_that_comes_after_all_does_not_make_the_reason_no_failures(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    assert book.health(A.id, 101.0).why == "failed 5 times in a row, last: http_500"
    book.succeeded(A.id, 101.0)  # too early to end the ejection
    assert book.health(A.id, 101.0).why == "failed too often, last: http_500"


def test_f07_a_success_between_them_starts_the_count_again(book: HealthBook) -> None:
    fail(book, 4, 100.0)
    book.succeeded(A.id, 100.0)
    fail(book, 4, 100.0)
    assert book.health(A.id, 100.0) == UP


def test_f07_each_ejection_in_a_row_is_longer_by_thirty_seconds_up_to_five_minutes(book: HealthBook) -> None:
    now, lengths = 100.0, []
    fail(book, 5, now)
    for _ in range(12):
        until = book.health(A.id, now).until_seconds
        lengths.append(until - now)
        now = until
        assert book.begin_trial(A.id, now)
        fail(book, 1, now)
    assert lengths == [30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0, 240.0, 270.0, 300.0, 300.0, 300.0]


def test_f07_a_replica_that_was_well_for_as_long_as_it_was_out_starts_at_thirty_seconds_again(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.succeeded(A.id, 130.0)
    fail(book, 5, 140.0)  # well for only 10 s
    assert book.health(A.id, 140.0).until_seconds == 200.0
    book.succeeded(A.id, 200.0)
    fail(book, 5, 261.0)  # well for 61 s after 60 s out
    assert book.health(A.id, 261.0).until_seconds == 291.0


def test_f07_requests_that_were_in_flight_at_the_ejection_do_not_prolong_it(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    fail(book, 200, 101.0)
    assert book.health(A.id, 101.0).until_seconds == 130.0


def test_f09_refused_credentials_take_it_out_until_a_check_passes(book: HealthBook) -> None:
    book.refused_credentials(A.id)
    health = book.health(A.id, 0.0)
    assert (health.state, health.until_seconds, health.admits(1e9)) == (HealthState.LOCKED_OUT, 0.0, False)
    book.succeeded(A.id, 1.0)
    book.check_passed(A.id, 1.0)  # /health asks for no key, so it proves nothing
    assert book.health(A.id, 1.0) == health
    book.accepted_credentials(A.id)
    assert book.health(A.id, 1.0) == UP


def test_f09_or_until_a_configuration_is_applied(book: HealthBook) -> None:
    book.refused_credentials(A.id)
    book.configure([A], RULES)
    assert book.health(A.id, 0.0) == UP


def test_f14_a_passing_health_check_does_not_end_an_ejection(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    for second in range(30):
        book.check_passed(A.id, 100.0 + second)
    assert book.health(A.id, 129.0).until_seconds == 130.0


def test_f14_after_the_ejection_one_request_decides_and_nobody_else_goes_there(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    assert not book.begin_trial(A.id, 129.9)
    assert book.health(A.id, 130.0).admits(130.0)
    assert book.begin_trial(A.id, 130.0)
    assert not book.health(A.id, 130.0).admits(130.0)
    assert not book.begin_trial(A.id, 130.0)
    book.succeeded(A.id, 131.0)
    assert book.health(A.id, 131.0) == UP


def test_f14_a_failed_trial_ejects_at_once(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.begin_trial(A.id, 130.0)
    fail(book, 1, 132.0)
    assert book.health(A.id, 132.0).until_seconds == 192.0


def test_f14_a_trial_that_is_never_heard_of_again_is_followed_by_another(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.begin_trial(A.id, 130.0)
    assert not book.begin_trial(A.id, 159.9)
    assert book.begin_trial(A.id, 160.0)


def test_f14_a_success_during_the_ejection_comes_too_early(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.succeeded(A.id, 110.0)
    assert book.health(A.id, 110.0).state is HealthState.EJECTED
    book.succeeded(A.id, 130.0)
    assert book.health(A.id, 130.0) == UP


def test_checks_missed_in_a_row_take_it_down_and_one_that_passes_brings_it_back(book: HealthBook) -> None:
    for _ in range(CHECKS_TO_DOWN - 1):
        book.check_missed(A.id, "timeout")
    book.check_passed(A.id, 1.0)
    for _ in range(CHECKS_TO_DOWN - 1):
        book.check_missed(A.id, "timeout")
    assert book.health(A.id, 1.0) == UP
    book.check_missed(A.id, "connect")
    assert book.health(A.id, 1.0) == Health(False, "health check fails: connect", 0.0, HealthState.DOWN)
    book.check_passed(A.id, 2.0)
    assert book.health(A.id, 2.0) == UP


def test_a_process_that_was_down_and_is_back_goes_on_trial_without_waiting(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    for _ in range(CHECKS_TO_DOWN):
        book.check_missed(A.id, "connect")
    book.check_passed(A.id, 110.0)
    assert book.health(A.id, 110.0).state is HealthState.EJECTED
    assert book.begin_trial(A.id, 110.0)


def test_f33_a_replica_that_is_leaving_is_out_whatever_it_answers_until_that_is_called_off(book: HealthBook) -> None:
    assert book.leave(A.id, "spot")
    book.succeeded(A.id, 1.0)
    book.check_passed(A.id, 2.0)
    book.limited(A.id, 5.0, 3.0)
    assert book.health(A.id, 3.0) == Health(False, "is leaving: spot", 0.0, HealthState.LEAVING)
    book.configure([A], RULES)
    assert book.is_leaving(A.id)
    assert book.stay(A.id)
    assert book.health(A.id, 10.0) == UP
    assert not book.leave("nobody", "spot")
    assert not book.stay("nobody")
    assert not book.is_leaving("nobody")


def test_f33_a_process_that_was_down_and_is_back_is_another_one_that_stays(book: HealthBook) -> None:
    book.leave(A.id, "spot")
    for _ in range(CHECKS_TO_DOWN):
        book.check_missed(A.id, "connect")
    assert book.health(A.id, 1.0).state is HealthState.DOWN
    book.check_passed(A.id, 2.0)
    assert book.health(A.id, 2.0) == UP


def test_of_two_reasons_that_end_by_themselves_the_later_end_counts(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.limited(A.id, 50.0, 100.0)
    assert book.health(A.id, 100.0).state is HealthState.LIMITED
    assert book.health(A.id, 100.0).until_seconds == 150.0
    book.failed(A.id, "connect", 150.0)
    assert book.health(A.id, 150.0).until_seconds == 210.0


def test_reports_on_a_replica_that_is_gone_are_ignored(book: HealthBook) -> None:
    book.configure([], RULES)
    fail(book, 5, 1.0)
    book.succeeded(A.id, 1.0)
    book.limited(A.id, 1.0, 1.0)
    book.refused_credentials(A.id)
    book.accepted_credentials(A.id)
    book.check_passed(A.id, 1.0)
    book.check_missed(A.id, "timeout")
    assert not book.begin_trial(A.id, 1.0)
    book.configure([A], RULES)
    assert book.health(A.id, 1.0) == UP


def test_a_reload_keeps_the_health_of_a_replica_that_stays_and_forgets_one_that_moved(book: HealthBook) -> None:
    fail(book, 5, 100.0)
    book.configure([A], RULES)
    assert book.health(A.id, 100.0).state is HealthState.EJECTED
    book.configure([Replica(A.id, A.backend, "http://10.0.0.2:8000")], RULES)
    assert book.health(A.id, 100.0) == UP
