"""The weigher: an attempt's weight from who else is there at its three events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from load.profiles import profile_named
from router.pricing.meter import ReplicaMeter
from router.pricing.shares import step_shares
from router.pricing.weigher import Weighed, Weigher
from router.pricing.weights import WEIGHT_MAX

MS = 1_000_000


def alone_in_decode(completion_tokens: int = 200) -> Weighed:
    weigher = Weigher()
    weigher.open("a", H100_8B, 0, 1000, completion_tokens)
    prompt_seconds = H100_8B.step_seconds(0, 0, 1000)
    weighed = weigher.first_token("a", round(prompt_seconds * 1e9), prompt_seconds)
    assert weighed is not None
    return weighed


def test_alone_in_decode_an_attempt_weighs_its_whole_step_which_grows_with_its_cache() -> None:
    weight, growth = alone_in_decode()
    assert weight == pytest.approx(H100_8B.step_seconds(1, 1000, 0) * 1e9, rel=1e-3)
    assert weight + 200 * growth == pytest.approx(H100_8B.step_seconds(1, 1200, 0) * 1e9, rel=1e-3)
    assert growth > 0


def test_how_long_a_completion_is_expected_to_be_is_no_matter_once_it_has_begun() -> None:
    assert alone_in_decode(2000) == pytest.approx(alone_in_decode(20), rel=0.001)


def test_in_a_batch_a_weight_has_grown_by_a_tokens_read_when_as_many_steps_have_gone_by_as_its_virtual_time_says() -> (
    None
):
    weigher, meter, name = Weigher(), ReplicaMeter(3_600 * 10**9, 0), ""
    for position in range(16):
        name = str(position)
        meter.open(name, weigher.open(name, H100_8B, 0, 1000, 400), 0)
    for position in range(16):
        weigher._decode(weigher._seats[str(position)])
        weigher._seats[str(position)].is_decoding = False
    at_ns = 100 * MS
    for position in range(16):
        weigher._decoding, weigher._context_tokens = 15, 15 * 1200
        weighed = weigher.first_token(str(position), at_ns, 0.0)
        assert weighed is not None
        meter.reweigh(str(position), weighed.weight, at_ns, weighed.growth)
    steps = 100
    ends_ns = at_ns + round(H100_8B.decode_steps(16).seconds(16 * 1000, steps, 16) * 1e9)
    meter.advance(ends_ns)
    of_one = H100_8B.kv_read_seconds_per_token * 16 * 1e9
    grown = meter._attempts[name].weight_at(meter._virtual) / 2**80 - weighed.weight
    assert grown == pytest.approx(steps * of_one, rel=0.1)


def test_a_prompt_behind_others_weighs_less_because_it_waits_longer() -> None:
    weights = []
    weigher = Weigher()
    for position in range(6):
        weights.append(weigher.open(str(position), H100_8B, position, H100_8B.chunk_tokens, 200))
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] < weights[0] / 3


def test_when_there_is_no_place_a_prompt_weighs_next_to_nothing_until_one_is_free() -> None:
    weigher = Weigher()
    for position in range(H100_8B.sequences_max):
        weigher.open(str(position), H100_8B, 0, 100, 200)
        weigher.first_token(str(position), 10 * MS, 0.01)
    waiting = weigher.open("waiting", H100_8B, 20 * MS, 100, 200)
    assert waiting < weigher.open("decoding", H100_8B, 20 * MS, 100, 200, is_streaming=False) * 50
    weigher.close("0", 30 * MS)
    weigher.close("waiting", 30 * MS)
    weigher.close("decoding", 30 * MS)
    assert weigher.open("next", H100_8B, 40 * MS, 100, 200) > waiting


def test_for_how_long_a_place_is_waited_for_is_what_those_who_hold_one_are_expected_to_take() -> None:
    def waiting(*, theirs: int, own: int) -> int:
        weigher = Weigher()
        for position in range(H100_8B.sequences_max):
            weigher.open(str(position), H100_8B, 0, 100, theirs)
            weigher.first_token(str(position), 10 * MS, 0.01)
        return weigher.open("waiting", H100_8B, 20 * MS, 100, own)

    assert waiting(theirs=20_000, own=20) == pytest.approx(waiting(theirs=20_000, own=2000), abs=1)
    assert waiting(theirs=200, own=200) > 10 * waiting(theirs=20_000, own=200)


def test_what_was_not_paid_before_the_first_token_is_paid_after_it() -> None:
    def weight(paid_seconds: float) -> int:
        weigher = Weigher()
        weigher.open("a", H100_8B, 0, 4000, 100)
        made = weigher.first_token("a", 50 * MS, paid_seconds)
        assert made is not None
        return made.weight

    # 10 ms over 100 steps: 0.1 ms a step.
    assert weight(0.0) - weight(0.010) == pytest.approx(0.010 / 100 * 1e9, abs=2)
    assert weight(100.0) >= 1


def test_the_unit_does_not_depend_on_how_many_are_there() -> None:
    """One that was weighed alone and one that joined thirty others share overhead and weights alike."""
    weigher = Weigher()
    weights = []
    for position in range(32):
        at = position * 100 * MS
        weigher.open(str(position), H100_8B, at, 10, 200)
        paid = weigher._prompt_seconds(weigher._seats[str(position)], H100_8B.batch_steps(position), 0, 0)
        weighed = weigher.first_token(str(position), at + 6 * MS, paid)
        assert weighed is not None
        weights.append(weighed.weight)
    assert max(weights) < 1.1 * min(weights)


def test_a_replica_that_fails_all_it_is_given_is_not_remembered_without_end() -> None:
    weigher = Weigher()
    for number in range(5000):
        weigher.open(str(number), H100_8B, number * MS, 100, 200)
        weigher.close(str(number), number * MS)
    assert len(weigher._waiting._rows) < 2000
    assert len(weigher._arrivals._rows) < 10


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 1e6), st.booleans(), st.sampled_from("obfc")
        ),
        max_size=40,
    )
)
def test_every_weight_is_one_that_the_meter_accepts_and_nothing_is_left_behind(
    moves: list[tuple[int, int, float, bool, str]],
) -> None:
    weigher = Weigher()
    opened: list[str] = []
    at = 0
    for number, (prompt, completion, paid, is_streaming, move) in enumerate(moves):
        at += prompt
        if move in "ob" or not opened:
            opened.append(str(number))
            weight = weigher.open(str(number), H100_8B, at, prompt, completion, is_streaming=is_streaming)
            assert 1 <= weight <= WEIGHT_MAX
        elif move == "f":
            weighed = weigher.first_token(opened[completion % len(opened)], at, paid)
            assert weighed is None or (1 <= weighed.weight <= WEIGHT_MAX and 0 <= weighed.growth <= WEIGHT_MAX)
        else:
            weigher.close(opened.pop(), at)
    for name in [*opened, *opened]:
        weigher.close(name, at)
    assert (weigher._decoding, weigher._context_tokens, weigher._waiting.tokens, weigher._waiting.count) == (0, 0, 0, 0)
    assert weigher.first_token("nobody", at, 0.0) is None


@pytest.mark.parametrize("profile", ["h100-llama-3.1-8b-fp8", "h100-qwen3-30b-a3b-fp8", "l4-llama-3.1-8b-int4"])
@given(st.integers(1, 200), st.integers(1, 400_000), st.integers(1, 8192))
def test_beside_a_prompt_a_decode_pays_what_the_rule_says(
    profile: str, decoding: int, context_tokens: int, chunk: int
) -> None:
    engine = profile_named(profile)
    weigher = Weigher()
    weigher._decoding, weigher._context_tokens = decoding, context_tokens
    full = engine.step_parts(decoding, context_tokens, chunk)
    told = step_shares(full, decoding, (engine.step_parts(0, 0, chunk),))
    own, by_caches = weigher._beside_a_prompt(engine.batch_steps(decoding), chunk)
    expected = told.alike_overhead_seconds + told.decode_weight_seconds
    expected += (full.decoders_seconds + told.compute_seconds) / decoding
    assert own == pytest.approx(expected, rel=1e-9)
    assert by_caches == pytest.approx(told.kv_read_seconds, rel=1e-9, abs=1e-12)
