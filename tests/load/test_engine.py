"""The engine in time: what is conserved, whatever is asked of it."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from load.engine import Engine, EngineSequence, SequenceState, Step
from router.pricing.profile import EngineProfile

BLOCK = 16


def profile(**members: float) -> EngineProfile:
    return EngineProfile.model_validate(
        {
            "step_overhead_seconds": 0.001,
            "weight_read_seconds": 0.01,
            "kv_read_seconds_per_token": 1e-7,
            "compute_seconds_per_token": 1e-5,
            "chunk_tokens": 64,
            "sequences_max": 4,
            "kv_capacity_tokens": 32 * BLOCK,
            **members,
        }
    )


def engine(**members: float) -> Engine:
    return Engine(profile(**members), block_tokens=BLOCK)


def run(subject: Engine, until_seconds: float = math.inf) -> list[Step]:
    steps: list[Step] = []
    while (due := subject.next_step_seconds) is not None and due <= until_seconds:
        steps += subject.advance_steps(due)
    return steps


def test_one_sequence_takes_a_prefill_step_and_then_a_step_a_token() -> None:
    subject = engine()
    sequence = EngineSequence(prompt_tokens=10, completion_tokens=5)
    subject.submit(sequence, 1.0)
    steps = run(subject)
    prefill = subject.profile.step_seconds(0, 0, 10)
    decodes = [subject.profile.step_seconds(1, 10 + produced, 0) for produced in range(1, 5)]
    assert sequence.state is SequenceState.FINISHED
    assert sequence.first_token_seconds == pytest.approx(1.0 + prefill)
    assert sequence.ended_seconds == pytest.approx(1.0 + prefill + sum(decodes))
    assert [(step.decoding, step.prefill_tokens) for step in steps] == [(0, 10), (1, 0), (1, 0), (1, 0), (1, 0)]


def test_sequences_that_arrive_together_share_their_steps() -> None:
    subject = engine()
    sequences = [EngineSequence(10, 3) for _ in range(3)]
    for sequence in sequences:
        subject.submit(sequence, 0.0)
    steps = run(subject)
    assert [step.decoding for step in steps] == [0, 3, 3]
    assert [len(step.progressed) for step in steps] == [3, 3, 3]


def test_a_long_prompt_is_cut_to_the_budget_and_decoding_goes_on_beside_it() -> None:
    subject = engine()
    first, second = EngineSequence(10, 20), EngineSequence(150, 1)
    subject.submit(first, 0.0)
    run(subject, 0.02)
    subject.submit(second, 0.02)
    steps = run(subject)
    mixed = [(step.decoding, step.prefill_tokens) for step in steps if step.prefill_tokens]
    assert mixed == [(1, 63), (1, 63), (1, 24)]
    assert second.produced_tokens == 1


def test_an_arrival_swallows_no_step_that_nobody_has_looked_at_yet() -> None:
    def told(steps: list[Step]) -> list[tuple[float, float, int]]:
        return [(step.began_seconds, step.ended_seconds, step.completion_tokens) for step in steps]

    alone = engine()
    alone.submit(EngineSequence(10, 30), 0.0)
    expected = told(run(alone))[:15]
    subject = engine()
    subject.submit(EngineSequence(10, 30), 0.0)
    first = subject.advance_steps(expected[0][1])
    subject.submit(EngineSequence(10, 30), expected[-1][0])
    assert told(first + subject.advance_steps(expected[-1][1])) == expected


def test_the_batch_is_bounded_and_the_queue_is_first_come_first_served() -> None:
    subject = engine()
    sequences = [EngineSequence(4, 6) for _ in range(10)]
    for sequence in sequences:
        subject.submit(sequence, 0.0)
    subject.advance(0.0)
    assert (subject.running, subject.waiting) == (4, 6)
    run(subject)
    admitted = [sequence.admitted_seconds for sequence in sequences]
    assert admitted == sorted(admitted)  # type: ignore[type-var]
    assert subject.is_idle


def test_a_prefix_seen_before_is_not_computed_again() -> None:
    subject = engine()
    hashes = [1, 2, 3, 4]
    cold, warm = EngineSequence(40, 8, hashes), EngineSequence(40, 8, hashes)
    subject.submit(cold, 0.0)
    run(subject)
    subject.submit(warm, 10.0)
    run(subject)
    assert (cold.cached_tokens, warm.cached_tokens) == (0, 2 * BLOCK)
    assert warm.first_token_seconds - 10.0 < cold.first_token_seconds - 0.0  # type: ignore[operator]
    assert (subject.counters.prefix_queries, subject.counters.prefix_hits) == (80, 2 * BLOCK)


def test_a_prompt_is_never_cached_whole_because_its_last_token_must_be_computed() -> None:
    subject = engine()
    for arrival in (0.0, 10.0):
        sequence = EngineSequence(2 * BLOCK, 1, [1, 2])
        subject.submit(sequence, arrival)
        run(subject)
    assert sequence.cached_tokens == BLOCK


def test_what_a_turn_has_written_is_cached_for_the_next_turn() -> None:
    subject = engine()
    subject.submit(EngineSequence(BLOCK, 3 * BLOCK, [1, 2, 3, 4]), 0.0)
    run(subject)
    following = EngineSequence(4 * BLOCK, 1, [1, 2, 3, 99])
    subject.submit(following, 10.0)
    run(subject)
    assert following.cached_tokens == 3 * BLOCK


def test_when_the_cache_is_full_the_youngest_is_preempted_and_still_finishes() -> None:
    subject = engine(kv_capacity_tokens=8 * BLOCK)
    sequences = [EngineSequence(3 * BLOCK, 3 * BLOCK) for _ in range(2)]
    for sequence in sequences:
        subject.submit(sequence, 0.0)
    run(subject)
    assert [sequence.preemptions for sequence in sequences] == [0, 1]
    assert all(sequence.produced_tokens == 3 * BLOCK for sequence in sequences)
    assert subject.counters.completion_tokens == 2 * 3 * BLOCK


def test_pooling_is_over_when_the_prompt_is_read() -> None:
    subject = engine()
    sequence = EngineSequence(100, 0)
    subject.submit(sequence, 0.0)
    steps = run(subject)
    assert sequence.state is SequenceState.FINISHED
    assert sequence.produced_tokens == 0
    assert [step.prefill_tokens for step in steps] == [64, 36]


def test_what_can_never_run_is_refused() -> None:
    subject = engine()
    with pytest.raises(ValueError, match="exceed the KV cache"):
        subject.submit(EngineSequence(subject.sequence_tokens_max, 1), 0.0)
    with pytest.raises(ValueError, match="at least one prompt token"):
        subject.submit(EngineSequence(0, 1), 0.0)
    assert subject.is_idle


def test_an_abort_frees_the_cache_at_once_and_the_step_under_way_runs_on() -> None:
    subject = engine()
    sequence = EngineSequence(30, 100)
    subject.submit(sequence, 0.0)
    run(subject, 0.05)
    subject.abort(sequence, 0.05)
    subject.abort(sequence, 0.05)
    assert (subject.running, subject.kv_usage_ratio) == (0, 0.0)
    assert subject.next_event_seconds is not None
    run(subject)
    assert subject.next_event_seconds is None
    assert subject.counters.aborted == 1


@dataclass(frozen=True)
class Ask:
    """A request of the property test. A prefix shared with others is `shared` blocks long."""

    arrival_seconds: float
    prompt_tokens: int
    completion_tokens: int
    shared: int
    abort_after_seconds: float | None


ASKS = st.lists(
    st.builds(
        Ask,
        st.floats(0, 2),
        st.integers(1, 12 * BLOCK),
        st.integers(0, 8 * BLOCK),
        st.integers(0, 20),
        st.none() | st.floats(0, 1),
    ),
    min_size=1,
    max_size=12,
)


def play(asks: list[Ask], capacity_blocks: int) -> tuple[Engine, list[EngineSequence], list[Step]]:
    """Run the asks to their end, checking at every event what must hold at every event."""
    subject = engine(kv_capacity_tokens=capacity_blocks * BLOCK)
    sequences = [
        EngineSequence(
            ask.prompt_tokens,
            ask.completion_tokens,
            [*range(ask.shared), *range(1000 * (position + 1), 1000 * (position + 1) + 20)],
        )
        for position, ask in enumerate(asks)
    ]
    events = [(ask.arrival_seconds, 0, position) for position, ask in enumerate(asks)]
    events += [
        (ask.arrival_seconds + ask.abort_after_seconds, 1, position)
        for position, ask in enumerate(asks)
        if ask.abort_after_seconds is not None
    ]
    steps: list[Step] = []
    for at, kind, position in sorted(events):
        while (due := subject.next_step_seconds) is not None and due <= at:
            steps += subject.advance_steps(due)
            assert subject.blocks.used <= subject.blocks.capacity
            assert subject.running <= subject.profile.sequences_max
        if kind == 0:
            subject.submit(sequences[position], at)
        else:
            subject.abort(sequences[position], at)
    while (due := subject.next_step_seconds) is not None:
        steps += subject.advance_steps(due)
        assert subject.blocks.used <= subject.blocks.capacity
    return subject, sequences, steps


@settings(deadline=None, max_examples=150)
@given(ASKS, st.integers(20, 40))
def test_every_token_asked_for_is_made_once_and_nothing_is_left_behind(asks: list[Ask], capacity_blocks: int) -> None:
    subject, sequences, steps = play(asks, capacity_blocks)
    assert (subject.running, subject.waiting, subject.blocks.used) == (0, 0, 0)
    for sequence in sequences:
        assert sequence.is_over
        if sequence.state is SequenceState.FINISHED:
            assert sequence.produced_tokens == sequence.completion_tokens
        else:
            assert sequence.produced_tokens <= sequence.completion_tokens
    assert subject.counters.completion_tokens == sum(sequence.produced_tokens for sequence in sequences)
    assert subject.counters.finished + subject.counters.aborted == len(sequences)
    assert all(step.decoding + step.prefill_tokens <= subject.profile.chunk_tokens for step in steps)
    assert all(before.ended_seconds <= after.began_seconds for before, after in pairwise(steps))
    assert subject.counters.busy_seconds == pytest.approx(sum(s.ended_seconds - s.began_seconds for s in steps))


@settings(deadline=None, max_examples=30)
@given(ASKS)
def test_the_same_asks_give_the_same_times(asks: list[Ask]) -> None:
    first, second = play(asks, 20)[1], play(asks, 20)[1]
    assert [(s.admitted_seconds, s.first_token_seconds, s.ended_seconds) for s in first] == [
        (s.admitted_seconds, s.first_token_seconds, s.ended_seconds) for s in second
    ]


@settings(deadline=None, max_examples=30)
@given(ASKS)
def test_how_often_the_clock_is_read_changes_nothing(asks: list[Ask]) -> None:
    subject, sequences, _ = play(
        [Ask(a.arrival_seconds, a.prompt_tokens, a.completion_tokens, a.shared, None) for a in asks], 20
    )
    late = engine(kv_capacity_tokens=20 * BLOCK)
    again = [EngineSequence(s.prompt_tokens, s.completion_tokens, s.block_hashes) for s in sequences]
    for sequence, ask in sorted(zip(again, asks, strict=True), key=lambda pair: pair[1].arrival_seconds):
        late.advance(ask.arrival_seconds)
        late.submit(sequence, ask.arrival_seconds)
    late.advance(1e9)
    assert late.counters.completion_tokens == subject.counters.completion_tokens
    assert sorted(s.ended_seconds or 0 for s in again) == pytest.approx(sorted(s.ended_seconds or 0 for s in sequences))


def test_a_pause_ends_with_the_step_under_way_and_resuming_goes_on() -> None:
    subject = engine()
    sequence = EngineSequence(10, 20)
    subject.submit(sequence, 0.0)
    subject.advance(0.05)
    subject.pause(0.05)
    subject.advance(10.0)
    made = sequence.produced_tokens
    assert 0 < made < 20
    assert subject.next_event_seconds is None
    subject.submit(EngineSequence(10, 5), 11.0)
    assert (subject.next_event_seconds, subject.waiting) == (None, 1)
    subject.resume(12.0)
    run(subject)
    assert sequence.produced_tokens == 20
    assert sequence.ended_seconds is not None
    assert sequence.ended_seconds > 12.0


def test_a_pause_that_lets_work_end_admits_nobody_until_it_is_over() -> None:
    subject = engine()
    running, late = EngineSequence(10, 20), EngineSequence(10, 5)
    subject.submit(running, 0.0)
    subject.advance(0.05)
    subject.pause(0.05, is_finishing=True)
    subject.submit(late, 0.06)
    run(subject)
    assert running.state is SequenceState.FINISHED
    assert (late.state, subject.waiting) == (SequenceState.WAITING, 1)
    subject.resume(5.0)
    run(subject)
    assert late.state is SequenceState.FINISHED


def test_one_that_drains_ends_its_work_and_takes_no_more() -> None:
    subject = engine()
    sequence = EngineSequence(10, 20)
    subject.submit(sequence, 0.0)
    subject.drain()
    with pytest.raises(ValueError, match="draining"):
        subject.submit(EngineSequence(10, 20), 0.0)
    run(subject)
    assert sequence.state is SequenceState.FINISHED


def test_no_step_begins_before_the_engine_has_started() -> None:
    subject = Engine(profile(), block_tokens=BLOCK, starts_seconds=40.0)
    sequence = EngineSequence(10, 1)
    subject.submit(sequence, 3.0)
    run(subject)
    assert sequence.admitted_seconds == 40.0


def test_prefixes_that_are_forgotten_are_computed_again() -> None:
    subject = engine()
    for arrival, cached in ((0.0, 0), (10.0, 2 * BLOCK), (20.0, 0)):
        if arrival == 20.0:
            subject.forget_prefixes()
        sequence = EngineSequence(40, 1, [1, 2])
        subject.submit(sequence, arrival)
        run(subject)
        assert sequence.cached_tokens == cached


def test_by_priority_the_urgent_overtake_and_the_least_urgent_is_preempted() -> None:
    subject = Engine(profile(kv_capacity_tokens=9 * BLOCK, sequences_max=2), block_tokens=BLOCK, is_by_priority=True)
    first, idle, urgent = (EngineSequence(3 * BLOCK, 3 * BLOCK, priority=priority) for priority in (5, 9, 0))
    for sequence in (first, idle, urgent):
        subject.submit(sequence, 0.0)
    run(subject)
    assert urgent.admitted_seconds == first.admitted_seconds == 0.0
    assert idle.admitted_seconds is not None
    assert idle.admitted_seconds > 0.0
    assert urgent.preemptions == 0
    assert first.preemptions == 1
    assert all(sequence.state is SequenceState.FINISHED for sequence in (first, idle, urgent))


def test_a_prompt_is_admitted_only_when_all_of_it_would_fit() -> None:
    """vLLM's `scheduler_reserve_full_isl`: else long prompts would be admitted by their first chunk, and preempted."""
    subject = engine(kv_capacity_tokens=12 * BLOCK)
    first, second = EngineSequence(6 * BLOCK, BLOCK), EngineSequence(8 * BLOCK, 1)
    for sequence in (first, second):
        subject.submit(sequence, 0.0)
    run(subject)
    assert second.admitted_seconds == first.ended_seconds
    assert subject.counters.preemptions == 0


def test_the_truth_about_attribution_is_not_kept_where_paces_differ() -> None:
    with pytest.raises(ValueError, match="one pace"):
        Engine(profile(), block_tokens=BLOCK, has_shares=True, acceptance_by_kind={"code": 0.9})


def test_speculation_makes_what_it_should_on_average_and_counts_it() -> None:
    speculation = {"draft_tokens": 3, "acceptance_ratio": 0.5, "draft_seconds": 0.001}
    for seed in range(5):
        subject = Engine(profile(speculation=speculation), block_tokens=BLOCK, seed=seed)  # type: ignore[arg-type]
        sequence = EngineSequence(10, 301)
        subject.submit(sequence, 0.0)
        run(subject)
        assert sequence.produced_tokens == 301
        per_step = 1 + 0.5 + 0.25 + 0.125
        assert subject.counters.steps - 1 in (math.floor(300 / per_step), math.ceil(300 / per_step))
        counters = subject.counters
        assert counters.draft_rounds == counters.steps - 1
        assert counters.accepted_tokens == 300 - counters.draft_rounds
