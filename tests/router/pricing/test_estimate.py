"""The estimate of what attempts on a leased replica run up: near the meter, and never more than the lease costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from router.pricing.estimate import ReplicaEstimate, Share
from router.pricing.weights import decode_step_seconds

SECOND = 10**9
DOLLAR_A_SECOND = 3_600 * 10**9  # so that nanoseconds are nano-dollars


def opened(
    replica: ReplicaEstimate, at_ns: int = 0, *, prompt: int = 100, cached: int = 0, is_streaming: bool = True
) -> Share:
    return replica.open(H100_8B, prompt, cached, 50, at_ns, is_streaming=is_streaming)


def test_alone_an_attempt_runs_up_what_the_lease_costs_meanwhile() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    share = opened(replica, 5 * SECOND)
    assert replica.first_token(share, 6 * SECOND)
    assert replica.close(share, 8 * SECOND) == 3 * SECOND
    assert replica.open_attempts == 0


def test_others_are_taken_to_weigh_what_ours_do() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    first, second = opened(replica), opened(replica)
    replica.share_with(6, SECOND)
    assert replica.close(first, 5 * SECOND) == SECOND // 2 + 4 * SECOND // 8
    replica.share_with(0, 5 * SECOND)
    assert replica.close(second, 6 * SECOND) == SECOND // 2 + 4 * SECOND // 8 + SECOND


def test_what_is_paid_follows_the_work_that_is_done() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    reads, decodes = opened(replica, prompt=8000), opened(replica)
    replica.first_token(decodes, 0)
    ratio = replica.close(reads, SECOND) / replica.close(decodes, SECOND)
    per_token = H100_8B.compute_seconds_per_token + H100_8B.token_seconds
    of_prompt = 8000 * per_token + H100_8B.prefill_overhead_seconds
    assert ratio == pytest.approx(of_prompt / decode_step_seconds(H100_8B, 100, 50), rel=1e-6)


@pytest.mark.parametrize("is_streaming", [True, False])
def test_what_is_cached_of_a_prompt_is_not_paid_for_as_if_it_was_computed(is_streaming: bool) -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    some, none = (opened(replica, prompt=8000, cached=cached, is_streaming=is_streaming) for cached in (7900, 0))
    less, more = replica.close(some, SECOND), replica.close(none, SECOND)
    assert 0 < less < more
    assert less + more == pytest.approx(SECOND)


def test_an_answer_that_is_not_streamed_has_one_weight() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    whole, other = opened(replica, is_streaming=False), opened(replica, is_streaming=False)
    assert not replica.first_token(whole, SECOND)
    assert replica.close(whole, 2 * SECOND) == replica.close(other, 2 * SECOND) == SECOND


def test_without_a_profile_all_weigh_the_same() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    shares = [replica.open(None, tokens, 0, tokens, 0, is_streaming=True) for tokens in (0, 10_000)]
    assert not replica.first_token(shares[1], 1)
    assert [replica.close(share, SECOND) for share in shares] == [SECOND // 2, SECOND // 2]


def test_another_price_counts_from_when_it_is_told() -> None:
    replica = ReplicaEstimate(DOLLAR_A_SECOND, 0)
    share = opened(replica)
    replica.reprice(2 * DOLLAR_A_SECOND, SECOND)
    assert replica.close(share, 2 * SECOND) == 3 * SECOND


@given(
    st.lists(st.tuples(st.sampled_from("obfcs"), st.integers(0, SECOND), st.integers(0, 20_000)), max_size=60),
    st.integers(0, 10**13),
)
def test_all_together_run_up_what_the_lease_costs_while_somebody_is_there_and_none_less_than_nothing(
    moves: list[tuple[str, int, int]], nanousd_per_hour: int
) -> None:
    replica, at_ns, busy_ns = ReplicaEstimate(nanousd_per_hour, 0), 0, 0
    shares: list[Share] = []
    charges: list[int] = []
    for move, later_ns, tokens in moves:
        busy_ns += later_ns if shares else 0
        at_ns += later_ns
        if move in "ob" or not shares:
            shares.append(opened(replica, at_ns, prompt=tokens, is_streaming=move == "o"))
        elif move == "f":
            replica.first_token(shares[tokens % len(shares)], at_ns)
        elif move == "c":
            charges.append(replica.close(shares.pop(tokens % len(shares)), at_ns))
    charges += [replica.close(share, at_ns) for share in shares]
    assert all(charge >= 0 for charge in charges)
    assert sum(charges) == pytest.approx(nanousd_per_hour / 3600 * busy_ns / SECOND, rel=1e-6, abs=len(charges) + 1)
