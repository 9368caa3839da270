"""The weigher: an attempt's weight from who else is there at its three events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from priced_engines import H100_8B

from load.profiles import profile_named
from router.pricing.meter import ReplicaMeter
from router.pricing.shares import step_shares
from router.pricing.weigher import UNITS, Weighed, Weigher
from router.pricing.weights import WEIGHT_MAX

MS = 1_000_000


def alone_in_decode(completion_tokens: int = 200) -> Weighed:
    weigher = Weigher()
    weigher.open("a", H100_8B, 0, 1000, completion_tokens)
    prompt_seconds = H100_8B.step_seconds(0, 0, 1000)
    weighed = weigher.first_token("a", round(prompt_seconds * 1e9), prompt_seconds)
    assert weighed is not None
    return weighed


UNITS_PER_NS = 2**10


def test_alone_in_decode_an_attempt_weighs_its_whole_step_which_grows_with_its_cache() -> None:
    weight, growth, shared, _ = alone_in_decode()
    assert shared + weight == pytest.approx(H100_8B.step_seconds(1, 1000, 0) * UNITS, rel=1e-3)
    assert weight == pytest.approx(1000 * H100_8B.kv_read_seconds_per_token * UNITS, rel=1e-3)
    # A nanosecond per weight goes by in as many steps.
    assert growth == pytest.approx(weight / 1000 * UNITS_PER_NS, rel=1e-3)


def test_how_long_a_completion_is_expected_to_be_is_no_matter_once_it_has_begun() -> None:
    assert alone_in_decode(2000) == pytest.approx(alone_in_decode(20), rel=0.001)


def in_a_batch(sequences: int, *, whole_ones: int = 0) -> tuple[Weigher, ReplicaMeter]:
    """All of 1,000 tokens, in decode since 100 ms; whole_ones: of which no first token is seen, beside them."""
    weigher, meter = Weigher(), ReplicaMeter(3_600 * 10**9, 0)
    for position in range(sequences):
        meter.open(str(position), weigher.open(str(position), H100_8B, 0, 1000, 400), 0)
    for turn in range(2):  # all are weighed as if all others were there
        for position in range(whole_ones if turn else 0):
            name = f"whole-{position}"
            meter.open(
                name, weigher.open(name, H100_8B, 100 * MS, 1, 400, is_streaming=False, context_tokens=1000), 100 * MS
            )
        for position in range(sequences):
            name = str(position)
            if weigher._seats[name].is_decoding:
                weigher._seats[name].is_decoding = weigher._seats[name].is_sharer = False
                weigher._decoding, weigher._sharers = weigher._decoding - 1, weigher._sharers - 1
                weigher._context_tokens -= weigher._seats[name].decode_context_tokens
                weigher._waiting.add(100 * MS, 1000, 1)
            weighed = weigher.first_token(name, 100 * MS, 0.0)
            assert weighed is not None
            meter.reweigh(name, weighed.weight, 100 * MS, weighed.growth, weighed.shared)
    return weigher, meter


@pytest.mark.parametrize("whole_ones", [0, 8])
def test_in_a_batch_a_weight_grows_by_a_tokens_read_in_every_step(whole_ones: int) -> None:
    _, meter = in_a_batch(16, whole_ones=whole_ones)
    steps, decoding = 100, 16 + whole_ones
    ends_ns = 100 * MS + round(H100_8B.decode_steps(decoding).seconds(decoding * 1000, steps, decoding) * 1e9)
    before = meter._attempts["3"].weight_at(meter._virtual)
    meter.advance(ends_ns)
    grown = meter._attempts["3"].weight_at(meter._virtual) / before - 1
    assert grown == pytest.approx(steps / 1000, rel=0.15)  # whole ones weigh what they do on average


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


def test_what_was_not_paid_before_the_first_token_is_settled_at_it() -> None:
    def settled(paid_seconds: float, *, at_ns: int = 50 * MS) -> int:
        weigher = Weigher()
        weigher.open("a", H100_8B, 0, 4000, 100)
        made = weigher.first_token("a", at_ns, paid_seconds)
        assert made is not None
        return made.settled

    took_ns = settled(0.0, at_ns=1000 * MS)
    assert took_ns == pytest.approx(H100_8B.step_seconds(0, 0, 4000) * 1e9, rel=0.05)
    assert settled(0.010, at_ns=1000 * MS) == pytest.approx(took_ns - 10 * MS, abs=2)
    assert settled(10.0, at_ns=1000 * MS) == pytest.approx(took_ns - 10_000 * MS, abs=2)
    assert settled(0.0, at_ns=2 * MS) == 2 * MS, "it cannot have taken more than all there was"


def test_where_the_cache_is_full_those_of_one_step_are_taken_to_have_been_read_together() -> None:
    """A short prompt beside the end of a long one pays for arithmetic; by itself it would hide behind the weights."""

    def settled(apart_ns: int) -> int:
        weigher = Weigher()
        for position in range(H100_8B.sequences_max - 1):
            weigher.open(str(position), H100_8B, position, 100, 200)
            weigher.first_token(str(position), 100 * MS + position, 0.0)
        for name, tokens in (("long", 4000), ("short", 50), ("another", 50)):
            weigher.open(name, H100_8B, 200 * MS, tokens, 200)
        weigher.first_token("long", 2000 * MS, 0.0)
        made = weigher.first_token("short", 2000 * MS + apart_ns, 0.0)
        assert made is not None
        return made.settled

    assert settled(0) > 1.5 * settled(1000 * MS)


def test_what_was_charged_for_prompt_tokens_that_were_cached_after_all_is_given_back() -> None:
    def given_back(computed_tokens: int | None) -> int:
        weigher = Weigher()
        weigher.open("a", H100_8B, 0, 4000, 100)
        weigher.first_token("a", 1000 * MS, 0.0)
        return weigher.close("a", 2000 * MS, computed_tokens)

    assert given_back(None) == given_back(4000) == given_back(5000) == 0
    by_tokens_ns = 4000 * H100_8B.compute_seconds_per_token * 1e9
    assert given_back(1000) == pytest.approx(by_tokens_ns * 3 / 4, rel=0.1)


def test_how_much_of_prompts_is_computed_is_learnt_from_those_that_ended() -> None:
    weigher = Weigher()
    untaught = weigher.open("first", H100_8B, 0, 4000, 100)
    for number in range(100):
        weigher.open(str(number), H100_8B, 1000 * MS * (number + 1), 4000, 100)
        weigher.close(str(number), 1000 * MS * (number + 1), 400)
    weigher.close("first", 200_000 * MS)
    taught = weigher.open("next", H100_8B, 201_000 * MS, 4000, 100)
    exact = Weigher().open("next", H100_8B, 0, 400, 100, context_tokens=4000)
    assert taught == pytest.approx(exact, rel=0.05)
    assert untaught > 2 * taught


def test_the_unit_does_not_depend_on_how_many_are_there() -> None:
    """One that was weighed alone and one that joined thirty others share overhead and weights alike."""
    weigher = Weigher()
    weights = []
    for position in range(32):
        at = position * 100 * MS
        weigher.open(str(position), H100_8B, at, 10, 200)
        weighed = weigher.first_token(str(position), at + 6 * MS, 0.0)
        assert weighed is not None
        weights.append(weighed.shared)
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
            if weighed is not None:
                meter = ReplicaMeter(10**9, 0)
                meter.open("any", 1, 0)
                meter.reweigh("any", weighed.weight, 0, *weighed[1:])  # or it would raise
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
