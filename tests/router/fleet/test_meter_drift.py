"""Our tokens against the replicas' own: known only where both are, and a restart of a replica is not a loss of ours."""

from router.domain.fleet import Replica, Scrape
from router.fleet.drift import MeterDrift

FIRST, SECOND = Replica("small/0", "small", "http://a"), Replica("small/1", "small", "http://b")


def drift(*replicas: Replica) -> MeterDrift:
    made = MeterDrift()
    made.configure(replicas or (FIRST,))
    return made


def scrape(prompt_tokens: int | None, completion_tokens: int | None) -> Scrape:
    return Scrape(0.0, prompt_tokens_total=prompt_tokens, completion_tokens_total=completion_tokens)


def test_nothing_is_said_before_both_are_known() -> None:
    one = drift()
    one.metered("small/0", 10)
    assert one.ratios() == {}
    one.scraped("small/0", scrape(1000, None))
    one.scraped("small/0", scrape(None, 50))
    assert one.ratios() == {}
    one.scraped("small/0", scrape(1000, 50))
    assert one.ratios() == {}  # it has counted nothing since


def test_only_what_happened_since_the_first_scrape_counts() -> None:
    one = drift()
    one.metered("small/0", 10_000)
    one.scraped("small/0", scrape(1000, 50))
    one.metered("small/0", 120)
    one.scraped("small/0", scrape(1100, 70))
    assert one.ratios() == {"small": 1.0}


def test_what_we_metered_since_the_last_scrape_does_not_run_ahead() -> None:
    one = drift()
    one.scraped("small/0", scrape(0, 0))
    one.metered("small/0", 100)
    one.scraped("small/0", scrape(80, 20))
    one.metered("small/0", 5000)
    assert one.ratios() == {"small": 1.0}


def test_a_backend_is_the_sum_of_its_replicas() -> None:
    one = drift(FIRST, SECOND)
    for replica in ("small/0", "small/1"):
        one.scraped(replica, scrape(0, 0))
    one.metered("small/0", 300)
    one.scraped("small/0", scrape(300, 0))
    one.scraped("small/1", scrape(50, 50))  # not ours
    assert one.ratios() == {"small": 0.75}


def test_a_restart_of_the_replica_is_neither_a_loss_nor_a_gain() -> None:
    one = drift()
    one.scraped("small/0", scrape(5000, 900))
    one.metered("small/0", 100)
    one.scraped("small/0", scrape(5070, 930))
    one.metered("small/0", 60)
    one.scraped("small/0", scrape(40, 20))  # begun again
    assert one.ratios() == {"small": 1.0}


def test_a_replica_at_another_address_is_another_one_and_one_that_has_gone_is_nobody() -> None:
    one = drift()
    one.scraped("small/0", scrape(0, 0))
    one.metered("small/0", 100)
    one.scraped("small/0", scrape(100, 0))
    one.configure([FIRST])
    assert one.ratios() == {"small": 1.0}
    one.configure([Replica("small/0", "small", "http://elsewhere")])
    assert one.ratios() == {}
    one.configure([])
    one.metered("small/0", 100)
    one.scraped("small/0", scrape(100, 0))
    assert one.ratios() == {}
