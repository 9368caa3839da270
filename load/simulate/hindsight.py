"""What the same requests must have cost, had all been known beforehand: a bound that no routing comes below.

Two linear programs over the answered requests, by HiGHS (scipy). Every request may be split among the backends that could have
served it, cached prefixes are had for the asking, and work may wait, so that whatever a policy did is one of the choices; the
mean predicted quality must be at least what the policy reached.

    with this fleet   least Σ metered, Σ work ≤ the time that the leases ran; the leases are paid either way
    with any fleet    least Σ metered + Σ work × the lease's price: leases by the second that are always full

*Work* is the least time of a replica that a request can take. A step takes the longer of moving bytes and computing, so at
least any mixture of both; what it takes whoever is in it falls on at most `sequences_max` sequences, or on as much context as
the cache holds.

    step ≥ overhead + λ · weights + Σ over sequences (sequence + token + (1 − λ) · computing + λ · context read) + prompts
    likewise

A bound is only worth what its relaxations leave: with a fleet that is far too large the first one is what is bought, and the
second near nothing. Pure.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from load.simulate.attempt import Attempt, Journey
from router.domain.usage import Usage
from router.pricing.cost import tariff_cost
from router.pricing.price import LeasedPrice, MeteredPrice
from router.pricing.profile import EngineProfile

Price = LeasedPrice | MeteredPrice
# Mixtures of moving and computing, and of sequences and context, among which the one is taken that gives the most work in all.
MIXTURES = tuple(product((0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0)))
# Work cannot be done before it came: the time after each of so many moments must hold what came after it.
MOMENTS = 8
NS_PER_HOUR = 3.6e12


@dataclass(frozen=True, slots=True)
class Served:
    """A request that was answered. shared_tokens: of its prompt, those that may have been in a cache. qualities: predicted, by
    place of the backend; None where it could not have served it."""

    due_seconds: float
    prompt_tokens: int
    shared_tokens: int
    completion_tokens: int
    qualities: tuple[float | None, ...]


class Witness:
    """Notes what was answered. qualities: of a request, by place. warmup_seconds: what was due before is not counted, but may
    have left its blocks in a cache."""

    def __init__(
        self,
        qualities: Callable[[Journey], tuple[float | None, ...]],
        *,
        block_tokens: int,
        warmup_seconds: float,
    ) -> None:
        self._qualities = qualities
        self._block_tokens = block_tokens
        self._warmup_seconds = warmup_seconds
        self._users: Counter[int] = Counter()
        self._answered: list[tuple[Attempt, tuple[float | None, ...]]] = []

    def closed(
        self, attempt: Attempt, usage: Usage, cost_nanousd: int, now_seconds: float, *, is_answered: bool
    ) -> None:
        if not is_answered:
            return
        self._users.update(attempt.sequence.block_hashes)
        if attempt.journey.due_seconds >= self._warmup_seconds:
            self._answered.append((attempt, self._qualities(attempt.journey)))

    def served(self) -> list[Served]:
        """All that was answered. A block that two had in common may have been computed for either: neither pays."""
        return [
            Served(
                attempt.journey.due_seconds,
                attempt.sequence.prompt_tokens,
                self._block_tokens * sum(self._users[block] > 1 for block in attempt.sequence.block_hashes),
                attempt.sequence.produced_tokens,
                qualities,
            )
            for attempt, qualities in self._answered
        ]


@dataclass(frozen=True, slots=True)
class Place:
    """A backend. price: its least. lease_seconds: for how long its replicas ran, all together; replicas: how many at most at
    once."""

    price: Price
    profile: EngineProfile
    lease_seconds: float = 0.0
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Nano-dollars. metered: what must have been bought with this fleet, beside its leases; total: with any fleet, leases and
    all."""

    metered_nanousd: float
    total_nanousd: float


def bounds(served: Sequence[Served], places: Sequence[Place], quality: float, ended_seconds: float) -> Bounds:
    """quality: the sum that was reached. ended_seconds: when the last lease of the run ends. Raises ImportError without scipy."""
    if not served:
        return Bounds(0.0, 0.0)
    pairs = [
        (row, column)
        for row, one in enumerate(served)
        for column, value in enumerate(one.qualities)
        if value is not None
    ]
    rows, columns = (np.array(side) for side in zip(*pairs, strict=True))
    values = np.array([served[row].qualities[column] or 0.0 for row, column in pairs])
    lengths = np.array([(one.prompt_tokens, one.shared_tokens, one.completion_tokens) for one in served], dtype=float)
    work, metered = np.zeros(len(pairs)), np.zeros(len(pairs))
    for column, place in enumerate(places):
        mine = columns == column
        if isinstance(place.price, LeasedPrice):
            work[mine] = work_seconds(place.profile, lengths[rows[mine]])
        else:
            metered[mine] = [_bought(place.price, served[row]) for row in rows[mine]]
    program = _Program(rows, len(served), values, quality)
    due = np.array([served[row].due_seconds for row in rows])
    moments = np.quantile(due, np.linspace(0, 1, MOMENTS, endpoint=False))
    limits = []
    for column, place in enumerate(places):
        if not isinstance(place.price, LeasedPrice):
            continue
        mine = np.where(columns == column, work, 0.0)
        limits.append((mine, place.lease_seconds))
        limits += [
            (np.where(due >= moment, mine, 0.0), place.replicas * max(0.0, ended_seconds - moment))
            for moment in moments
        ]
    leased = np.array(
        [place.price.nanousd_per_hour / 3600 if isinstance(place.price, LeasedPrice) else 0.0 for place in places]
    )
    return Bounds(program.least(metered, limits), program.least(metered + work * leased[columns], []))


def work_seconds(profile: EngineProfile, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least time of a replica that each request takes. lengths: prompt, shared and completion tokens by row."""
    prompt, shared, completion = lengths.T
    fresh = np.maximum(1.0, prompt - shared)
    tokens_per_step = profile.tokens_per_step
    steps = np.maximum(0.0, completion - 1) / tokens_per_step
    context = steps * prompt + tokens_per_step * steps * np.maximum(0.0, steps - 1) / 2
    verified = profile.verified_tokens
    # A block that several hold is in the cache once, and read by each.
    context_max = profile.kv_capacity_tokens + profile.sequences_max * float(shared.max(initial=0.0))
    draft_seconds = 0.0 if profile.speculation is None else profile.speculation.draft_seconds

    def by(moving: float, by_sequence: float) -> NDArray[np.float64]:
        computing = (1 - moving) * profile.compute_seconds_per_token
        whole = profile.step_overhead_seconds + moving * profile.weight_read_seconds + draft_seconds
        a_sequence = profile.sequence_seconds + verified * (profile.token_seconds + computing)
        a_sequence += by_sequence * whole / profile.sequences_max
        a_context_token = moving * profile.kv_read_seconds_per_token
        a_context_token += (1 - by_sequence) * whole / context_max
        pairs = (1 - moving) * profile.attention_seconds_per_pair * fresh * (fresh + 1) / 2
        reading = fresh * (profile.token_seconds + computing) + pairs
        return np.asarray(reading + steps * a_sequence + context * a_context_token)

    return max((by(*mixture) for mixture in MIXTURES), key=lambda work: float(work.sum()))


class _Program:
    """Shares of requests among backends: each request is served whole, and the mean quality reached."""

    def __init__(self, rows: NDArray[np.int_], requests: int, values: NDArray[np.float64], quality: float) -> None:
        from scipy.sparse import coo_array  # type: ignore[import-untyped]  # scipy ships no types

        count = len(rows)
        self._whole = coo_array((np.ones(count), (rows, np.arange(count))), shape=(requests, count)).tocsr()
        self._ones = np.ones(requests)
        self._at_most = [(-values, -quality + 1e-9 * max(1.0, quality))]

    def least(self, costs: NDArray[np.float64], limits: Sequence[tuple[NDArray[np.float64], float]]) -> float:
        """The least Σ shares × costs. limits: Σ shares × these is at most that. Raises ValueError when there is no way at all."""
        from scipy.optimize import linprog  # type: ignore[import-untyped]

        at_most = [*self._at_most, *limits]
        scale = max(1.0, float(costs.max()))
        found = linprog(
            costs / scale,
            A_ub=np.stack([row for row, _ in at_most]),
            b_ub=np.array([limit for _, limit in at_most]),
            A_eq=self._whole,
            b_eq=self._ones,
            method="highs",
        )
        if found.status != 0:
            raise ValueError(f"no bound: {found.message}")
        return float(found.fun) * scale


def _bought(price: Price, one: Served) -> int:
    assert isinstance(price, MeteredPrice)
    cached_tokens = min(one.shared_tokens, one.prompt_tokens)
    return tariff_cost(price, Usage(one.prompt_tokens, one.completion_tokens, cached_tokens=cached_tokens))
