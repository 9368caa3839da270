"""The engine that adds steps up against one that takes them one by one: same times, tokens, preemptions, shares."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_engine import PlainEngine, PlainSequence

from load.engine import Engine, EngineSequence
from router.pricing.profile import EngineProfile, Speculation

BLOCK = 4
SPECULATION = Speculation(draft_tokens=3, acceptance_ratio=0.6, draft_seconds=0.0007)


def profile(capacity_blocks: int, *, is_compute_bound: bool, speculation: Speculation | None) -> EngineProfile:
    return EngineProfile(
        step_overhead_seconds=0.001,
        weight_read_seconds=0.01,
        kv_read_seconds_per_token=3e-5,
        compute_seconds_per_token=5e-3 if is_compute_bound else 2e-4,
        attention_seconds_per_pair=1e-6,
        chunk_tokens=24,
        sequences_max=4,
        kv_capacity_tokens=capacity_blocks * BLOCK,
        speculation=speculation,
    )


@dataclass(frozen=True)
class Ask:
    arrival_seconds: float
    prompt_tokens: int
    completion_tokens: int
    shared_blocks: int
    priority: int
    abort_after_seconds: float | None
    kind: str = ""


ASKS = st.lists(
    st.builds(
        Ask,
        st.floats(0, 3),
        st.integers(1, 10 * BLOCK),
        st.integers(0, 10 * BLOCK),
        st.integers(0, 20),
        st.integers(-1, 1),
        st.none() | st.floats(0, 1.5),
    ),
    min_size=1,
    max_size=10,
)


def hashes(position: int, ask: Ask) -> list[int]:
    return [*range(ask.shared_blocks), *range(1000 * (position + 1), 1000 * (position + 1) + 20)]


def events(asks: list[Ask]) -> list[tuple[float, int, int]]:
    rows = [(ask.arrival_seconds, 0, position) for position, ask in enumerate(asks)]
    rows += [
        (ask.arrival_seconds + ask.abort_after_seconds, 1, position)
        for position, ask in enumerate(asks)
        if ask.abort_after_seconds is not None
    ]
    return sorted(rows)


Advance = Callable[[Engine, float], object]


def play(asks: list[Ask], subject: Engine, advance: Advance) -> list[EngineSequence]:
    sequences = [
        EngineSequence(ask.prompt_tokens, ask.completion_tokens, hashes(position, ask), ask.priority, ask.kind)
        for position, ask in enumerate(asks)
    ]
    for at, kind, position in events(asks):
        advance(subject, at)
        if kind == 0:
            subject.submit(sequences[position], at)
        else:
            subject.abort(sequences[position], at)
    advance(subject, 1e9)
    return sequences


def play_plainly(asks: list[Ask], plain: PlainEngine) -> list[PlainSequence]:
    sequences = [
        PlainSequence(ask.prompt_tokens, ask.completion_tokens, hashes(position, ask), ask.priority, ask.kind)
        for position, ask in enumerate(asks)
    ]
    for at, kind, position in events(asks):
        plain.advance(at)
        if kind == 0:
            plain.submit(sequences[position], at)
        else:
            plain.abort(sequences[position], at)
    plain.advance(1e9)
    return sequences


def looking(subject: Engine, now_seconds: float) -> None:
    """Advance in thirds, looking in between: it must change nothing."""
    while (due := subject.next_event_seconds) is not None and due <= now_seconds:
        step = subject.next_step_seconds
        assert step is not None
        subject.advance(step)
        subject.look(step)
        subject.advance(due)
    subject.advance(now_seconds)
    if math.isfinite(now_seconds):
        subject.look(now_seconds)


@settings(deadline=None, max_examples=150)
@given(ASKS, st.integers(20, 32), st.booleans(), st.booleans())
def test_adding_steps_up_gives_what_taking_them_one_by_one_gives(
    asks: list[Ask], capacity_blocks: int, is_compute_bound: bool, is_by_priority: bool
) -> None:
    kind = profile(capacity_blocks, is_compute_bound=is_compute_bound, speculation=None)
    plain = PlainEngine(kind, BLOCK, is_by_priority=is_by_priority)
    expected = play_plainly(asks, plain)
    for advance in (Engine.advance, Engine.advance_steps, looking):
        subject = Engine(kind, block_tokens=BLOCK, is_by_priority=is_by_priority, has_shares=True)
        for got, want in zip(play(asks, subject, advance), expected, strict=True):
            assert got.state.value == want.state
            assert (got.produced_tokens, got.cached_tokens, got.preemptions) == (
                want.produced,
                want.cached,
                want.preemptions,
            )
            for ours, theirs in (
                (got.admitted_seconds, want.admitted),
                (got.first_token_seconds, want.first),
                (got.ended_seconds, want.ended),
                (got.shares.total_seconds if got.shares else None, want.shares_seconds),
            ):
                assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-9, abs=1e-9))
        counters = subject.counters
        assert (counters.steps, counters.preemptions) == (plain.steps, plain.preemptions)
        assert counters.completion_tokens == plain.completion_tokens
        assert counters.busy_seconds == pytest.approx(plain.busy_seconds)
        assert (subject.blocks.used, subject.is_idle) == (0, True)


@settings(deadline=None, max_examples=100)
@given(ASKS, st.integers(24, 40), st.booleans(), st.integers(0, 99))
def test_speculation_yields_the_same_tokens_at_the_same_times_but_for_rounding_of_its_mean(
    asks: list[Ask], capacity_blocks: int, is_compute_bound: bool, seed: int
) -> None:
    """Aborts are left out: the two may differ in whether a step had ended a rounding before one."""
    asks = [Ask(a.arrival_seconds, a.prompt_tokens, a.completion_tokens, a.shared_blocks, 0, None) for a in asks]
    kind = profile(capacity_blocks, is_compute_bound=is_compute_bound, speculation=SPECULATION)
    subject = Engine(kind, block_tokens=BLOCK, has_shares=True, seed=seed)
    by_steps = Engine(kind, block_tokens=BLOCK, has_shares=True, seed=seed)
    ours, ours_by_steps = play(asks, subject, Engine.advance), play(asks, by_steps, Engine.advance_steps)
    assert [(s.first_token_seconds, s.ended_seconds, s.preemptions) for s in ours] == [
        (s.first_token_seconds, s.ended_seconds, s.preemptions) for s in ours_by_steps
    ]
    assert subject.counters.steps == by_steps.counters.steps
    assert subject.counters.completion_tokens == sum(s.produced_tokens for s in ours)
    assert all(s.produced_tokens == s.completion_tokens for s in ours)
    plain = PlainEngine(kind, BLOCK, seed=seed)
    play_plainly(asks[:1], plain)
    alone = Engine(kind, block_tokens=BLOCK, seed=seed)
    play(asks[:1], alone, Engine.advance)
    assert (alone.counters.steps, alone.counters.completion_tokens) == (plain.steps, plain.completion_tokens)
    assert alone.counters.busy_seconds == pytest.approx(plain.busy_seconds, rel=1e-2)


KINDS = {"code": 0.95, "chat": 0.1}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 16), st.integers(0, 40), st.sampled_from(["", *KINDS])), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_where_drafts_are_accepted_by_kind_each_gains_in_a_step_what_its_kind_does(
    asks: list[tuple[int, int, str]], seed: int
) -> None:
    """All come at once, with blocks for all, so that who is in which step does not hang on the rounding of the caches' growth."""
    together = [Ask(0.0, prompt, completion, 0, 0, None, kind) for prompt, completion, kind in asks]
    kind = profile(200, is_compute_bound=False, speculation=SPECULATION)
    plain = PlainEngine(kind, BLOCK, seed=seed, acceptance_by_kind=KINDS)
    expected = play_plainly(together, plain)
    for advance in (Engine.advance, Engine.advance_steps, looking):
        subject = Engine(kind, block_tokens=BLOCK, seed=seed, acceptance_by_kind=KINDS)
        got = play(together, subject, advance)
        assert [(s.produced_tokens, s.first_token_seconds) for s in got] == [
            (s.produced, pytest.approx(s.first)) for s in expected
        ]
        assert [s.ended_seconds for s in got] == [pytest.approx(s.ended, rel=0.02) for s in expected]
        counters = subject.counters
        assert (counters.steps, counters.completion_tokens) == (plain.steps, plain.completion_tokens)
        assert (subject.blocks.used, subject.is_idle) == (0, True)


@settings(deadline=None, max_examples=100)
@given(ASKS, st.lists(st.sampled_from(["", *KINDS]), min_size=10, max_size=10), st.integers(24, 40), st.integers(0, 99))
def test_kinds_that_share_a_cache_that_is_too_small_all_come_to_their_ends(
    asks: list[Ask], kinds: list[str], capacity_blocks: int, seed: int
) -> None:
    asks = [replace(ask, kind=kind) for ask, kind in zip(asks, kinds, strict=False)]
    told = profile(capacity_blocks, is_compute_bound=False, speculation=SPECULATION)
    subject = Engine(told, block_tokens=BLOCK, seed=seed, acceptance_by_kind=KINDS)
    sequences = play(asks, subject, Engine.advance)
    assert all(s.is_over for s in sequences)
    assert all(s.produced_tokens == s.completion_tokens for s in sequences if s.state.value == "finished")
    assert subject.counters.completion_tokens == sum(s.produced_tokens for s in sequences)
    assert (subject.blocks.used, subject.is_idle) == (0, True)


@settings(deadline=None, max_examples=100)
@given(ASKS, st.integers(24, 40), st.booleans(), st.booleans())
def test_the_shares_of_all_sequences_are_the_time_the_engine_was_busy(
    asks: list[Ask], capacity_blocks: int, is_compute_bound: bool, is_speculating: bool
) -> None:
    speculation = SPECULATION if is_speculating else None
    kind = profile(capacity_blocks, is_compute_bound=is_compute_bound, speculation=speculation)
    subject = Engine(kind, block_tokens=BLOCK, has_shares=True)
    sequences = play(asks, subject, Engine.advance)
    total_seconds = sum(sequence.shares.total_seconds for sequence in sequences if sequence.shares is not None)
    assert total_seconds == pytest.approx(subject.counters.busy_seconds, rel=1e-9)
