"""What a request is expected to cost at a candidate, on the three bases (design: allocated, standard, marginal).

Expectations, so floats until the last step; what a request did cost is reckoned in whole numbers by `meter.py` and `cost.py`.
"""

from functools import lru_cache
from typing import NamedTuple

from router.domain.decision import Quote
from router.domain.fleet import Load, Scrape
from router.pricing.cost import TOKENS_PER_RATE, rates_for
from router.pricing.drift import Drift
from router.pricing.forecast import Occupancy, Pace, occupancy, tpot_seconds, ttft_seconds
from router.pricing.mix import CHAT
from router.pricing.price import LeasedPrice, MeteredPrice, Price, Tariff
from router.pricing.profile import EngineProfile
from router.pricing.shares import prompt_arithmetic_seconds, prompt_cost_seconds
from router.pricing.standard import (
    SECONDS_PER_HOUR,
    TARGET_UTILIZATION_RATIO,
    OperatingPoint,
    operating_point,
    standard_rates,
)

# On an idle lease a request adds no cost but energy. An H100 draws 1.73 kW all in (SemiAnalysis, 2026); at $0.146 a kWh that
# is 7 % of $3.78 an hour, less what it draws when idle. Never 0: between two idle replicas the smaller job still wins.
IDLE_SCARCITY = 0.05
# Near saturation scarcity grows as waiting does in a queue, as 1 ÷ (what is left); this bounds it where nothing is left.
SLACK_RATIO_MIN = 0.05


NO_WORK = Occupancy(0, 0, 0, 0)


class Appraisal(NamedTuple):
    """What one request would meet at one replica: its forecasts, without the network, and its quote."""

    ttft_seconds: float
    tpot_seconds: float
    quote: Quote


class Lease:
    """A leased price on a known engine: all that does not change between two requests. Make one per backend.

    cache_saving_seconds: engine-seconds at the operating point that a prompt token takes less when it is cached.
    """

    __slots__ = (
        "_completion_seconds",
        "_context_seconds",
        "_prompt_seconds",
        "cache_saving_seconds",
        "nanousd_per_second",
        "point",
        "profile",
        "purchase",
        "rates",
    )

    def __init__(self, price: LeasedPrice, profile: EngineProfile) -> None:
        self.profile = profile
        self.purchase = price.purchase
        self.nanousd_per_second = price.nanousd_per_hour / SECONDS_PER_HOUR
        self.rates = standard_rates(price, profile)
        self.point = point = operating_point(profile)
        self.cache_saving_seconds = point.prompt_seconds - point.cached_seconds
        self._prompt_seconds = point.prompt_seconds
        # What a completion token takes of the engine: at all, and for each token of its context.
        self._completion_seconds = point.scale / point.tokens_per_step * profile.target_share_seconds
        self._context_seconds = point.scale / point.tokens_per_step * profile.kv_read_seconds_per_token

    def engine_seconds(
        self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0.0, steps_ratio: float = 1.0
    ) -> float:
        """What a request adds to the engine's work, at the operating point, with its own context. steps_ratio: steps that its
        answer takes, to those that it would take by the profile (`yields.py`).

        How much longer a step takes *right now* would not do: it is a whole step on an idle engine and almost nothing on a busy
        one, and a policy that follows it herds everything onto the fullest replica.
        """
        context_seconds = self._context_seconds * (prompt_tokens + completion_tokens / 2)
        return (
            prompt_tokens * self._prompt_seconds
            - cached_tokens * self.cache_saving_seconds
            + completion_tokens * steps_ratio * (self._completion_seconds + context_seconds)
        )

    def standard_nanousd(self, prompt_tokens: float, completion_tokens: float, cached_tokens: float) -> int:
        """Tokens × standard price (`standard.py`)."""
        rates = self.rates
        tokens = (
            (prompt_tokens - cached_tokens) * rates.prompt
            + cached_tokens * rates.cached
            + completion_tokens * rates.completion
        )
        return round(tokens / TOKENS_PER_RATE)

    def appraise(
        self,
        load: Load,
        scrape: Scrape | None,
        prompt_tokens: float,
        completion_tokens: float,
        cached_tokens: float = 0.0,
        drift: Drift | None = None,
    ) -> Appraisal:
        """Everything of one request at one replica. drift: how far the replica was found to be from its profile; it bears on
        the forecasts, and so on how long the request would pay its share."""
        outlook = Outlook(self, load, scrape, drift)
        ttft_seconds = outlook.ttft_seconds(prompt_tokens - cached_tokens)
        tpot_seconds = outlook.tpot_seconds(prompt_tokens, completion_tokens)
        quote = Quote(
            outlook.allocated_nanousd(prompt_tokens, completion_tokens, cached_tokens),
            self.standard_nanousd(prompt_tokens, completion_tokens, cached_tokens),
            round(self.engine_seconds(prompt_tokens, completion_tokens, cached_tokens) * outlook.marginal_rate),
        )
        return Appraisal(ttft_seconds, tpot_seconds, quote)

    def alone_nanousd(self, prompt_tokens: int, completion_tokens: int) -> float:
        """What `allocated` is on a replica without other work, where every second is the request's own, if no draft is right."""
        profile = self.profile
        seconds = ttft_seconds(profile, NO_WORK, prompt_tokens) if prompt_tokens else 0.0
        if completion_tokens:
            step_seconds = tpot_seconds(profile, NO_WORK, prompt_tokens, completion_tokens) * profile.tokens_per_step
            seconds += completion_tokens * step_seconds
        return seconds * self.nanousd_per_second


class Outlook(Pace):
    """One leased replica under the work that it has: what holds for every request until that changes.

    load: what it was made of, with a scrape. ttft_ratio, tpot_ratio: of its times to its profile's, as learned; they are in what
    is forecast here. marginal_rate: nano-dollars for an engine-second (`Lease.engine_seconds`) now, π × scarcity.
    """

    __slots__ = ("_share", "lease", "load", "marginal_rate", "tpot_ratio", "ttft_ratio")

    def __init__(
        self,
        lease: Lease,
        load: Load,
        scrape: Scrape | None,
        drift: Drift | None = None,
        yield_ratio: float = 1.0,
    ) -> None:
        busy = occupancy(lease.profile, load, scrape)
        super().__init__(lease.profile, busy)
        self.yield_ratio = yield_ratio
        self._share: tuple[float, float] | None = None
        self.lease = lease
        self.load = load
        self.marginal_rate = scarcity(lease.profile, lease.point, busy) * lease.nanousd_per_second
        self.ttft_ratio, self.tpot_ratio = (1.0, 1.0) if drift is None else (drift.ttft.ratio, drift.tpot.ratio)

    def ttft_seconds(self, uncached_prompt_tokens: float) -> float:
        return super().ttft_seconds(uncached_prompt_tokens) * self.ttft_ratio

    def tpot_seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        return super().tpot_seconds(prompt_tokens, completion_tokens) * self.tpot_ratio

    def step_seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Of a step that decodes such a request, by the profile alone."""
        return super().tpot_seconds(prompt_tokens, completion_tokens) * self.profile.tokens_per_step

    @property
    def fill_ratio(self) -> float:
        """Sequences there ÷ the operating point's."""
        return (self.busy.decoding + self.busy.prefilling) / self.lease.point.sequences

    def allocated_nanousd(
        self, prompt_tokens: float, completion_tokens: float, cached_tokens: float, steps_ratio: float = 1.0
    ) -> int:
        """What the meter would charge if the present load stayed: what the request takes of the steps that read its prompt and of
        those that decode it, × π. It falls as the batch grows. Alone, all of its time is its own. steps_ratio: as a lease's."""
        lease, busy, profile = self.lease, self.busy, self.profile
        if not busy.decoding and not busy.prefilling:
            seconds = self.ttft_seconds(prompt_tokens - cached_tokens)
            seconds += completion_tokens * steps_ratio * self.tpot_seconds(prompt_tokens, completion_tokens)
            return round(seconds * lease.nanousd_per_second)
        if self._share is None:
            self._share = self._decode_share()
        alike_seconds, seconds_per_token = self._share
        context_tokens = prompt_tokens + completion_tokens / 2
        seconds = (
            completion_tokens * steps_ratio * (alike_seconds + seconds_per_token * context_tokens) * self.tpot_ratio
        )
        uncached_tokens = int(prompt_tokens - cached_tokens)
        if uncached_tokens > 0:
            arithmetic_seconds = prompt_arithmetic_seconds(profile, uncached_tokens, int(prompt_tokens))
            batch = profile.batch_steps(self._sequences() - 1)
            seconds += self.tpot_ratio * prompt_cost_seconds(
                batch, busy.context_tokens, uncached_tokens, arithmetic_seconds
            )
        return round(seconds * lease.nanousd_per_second)

    def _decode_share(self) -> tuple[float, float]:
        """Of a completion token: what each of those that decode pays alike, and what for each token of its context, seconds."""
        profile, sequences = self.profile, self._sequences()
        context_tokens = self._context_tokens(sequences) or CHAT.prompt_tokens
        alike_seconds, kv_seconds = profile.batch_steps(sequences).decode_shares(context_tokens)
        return alike_seconds / profile.tokens_per_step, kv_seconds / context_tokens / profile.tokens_per_step


@lru_cache(maxsize=256)
def lease(price: LeasedPrice, profile: EngineProfile) -> Lease:
    return Lease(price, profile)


def quote(
    price: Price,
    profile: EngineProfile | None,
    load: Load,
    scrape: Scrape | None,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0.0,
    audio_seconds: float = 0.0,
) -> Quote:
    """The expected cost of one request. cached_tokens: of the prompt's, those the prefix cache is expected to hold.

    Raises ValueError for a leased price without a profile.
    """
    if isinstance(price, MeteredPrice):
        return metered_quote(price, prompt_tokens, completion_tokens, cached_tokens, audio_seconds)
    if profile is None:
        raise ValueError(f"{price.price_id} is paid by the hour; without an engine profile nothing can be quoted")
    return lease(price, profile).appraise(load, scrape, prompt_tokens, completion_tokens, cached_tokens).quote


def metered_quote(
    tariff: Tariff,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0.0,
    audio_seconds: float = 0.0,
) -> Quote:
    """Tariff × expected usage. The three bases are one: there is no bill but this."""
    rates = rates_for(tariff, prompt_tokens)
    tokens = (
        (prompt_tokens - cached_tokens) * rates.prompt
        + cached_tokens * rates.cached
        + completion_tokens * rates.completion
    )
    audio = audio_seconds * tariff.audio_nanousd_per_hour / SECONDS_PER_HOUR
    nanousd = round(tokens / TOKENS_PER_RATE + audio) + tariff.request_nanousd
    return Quote(nanousd, nanousd, nanousd)


def scarcity(profile: EngineProfile, point: OperatingPoint, busy: Occupancy) -> float:
    """How dear a second of the engine is under this load: IDLE_SCARCITY when idle, 1 at target, 20 when nothing is left.

    The scarcer of sequence slots (target: the operating point's batch; limit: `sequences_max`) and KV cache (target:
    TARGET_UTILIZATION_RATIO of it; limit: all). Linear up to the target, for there a request takes from nobody but what
    could still come; beyond it 1 ÷ slack, the growth of waiting in a queue, for there it delays the others.
    """
    engine = profile.figures
    slots = (busy.decoding + busy.prefilling) / point.sequences
    held_tokens = busy.context_tokens + busy.prefill_tokens - busy.cached_tokens  # what is shared is there once
    cache = held_tokens / engine.kv_capacity_tokens / TARGET_UTILIZATION_RATIO
    if slots <= 1 and cache <= 1:
        return IDLE_SCARCITY + (1 - IDLE_SCARCITY) * (slots if slots > cache else cache)
    return max(_delay(slots, engine.sequences_max / point.sequences), _delay(cache, 1 / TARGET_UTILIZATION_RATIO))


def _delay(ratio: float, limit: float) -> float:
    """1 ÷ slack, from 1 at target. ratio: use ÷ target. limit: all there is ÷ target, ≥ 1."""
    if ratio <= 1:
        return 1.0
    slack_ratio = (limit - ratio) / (limit - 1) if limit > 1 else 0.0
    return 1 / max(slack_ratio, SLACK_RATIO_MIN)
