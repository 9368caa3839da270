"""What befalls a fleet while it is simulated, as a scenario tells it: failures, preemptions, prices that change.

Either at a set time, or by chance: every replica that a backend has at the start for itself, at exponential intervals. Chance
goes by the seed and the replica's name, so every policy meets the same. What must not live here: what follows from it
(`world.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from math import inf
from random import Random
from typing import NamedTuple, Self, TypeVar

from pydantic import Field, model_validator

from load.simulate.decider import Price
from load.simulate.world import World
from router.config.section import Shape
from router.domain.money import nanousd_from_usd
from router.pricing.price import LeasedPrice, MeteredPrice, ServiceTier, TokenRates

AnyTariff = TypeVar("AnyTariff", MeteredPrice, ServiceTier)


class _When(Shape):
    """Once, at `at_seconds`, to one `replica`; or to every replica of a `backend`, every `every_seconds` on average."""

    replica: str = ""
    at_seconds: float | None = Field(default=None, ge=0)
    backend: str = ""
    every_seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        at_once, by_chance = (self.replica, self.at_seconds), (self.backend, self.every_seconds)
        is_at_once = bool(self.replica) and self.at_seconds is not None and by_chance == ("", None)
        is_by_chance = bool(self.backend) and self.every_seconds is not None and at_once == ("", None)
        if not (is_at_once or is_by_chance):
            raise ValueError("it takes `replica` with `at_seconds`, or `backend` with `every_seconds`")
        return self


class FailureConfig(_When):
    """A replica's process dies, and another is there after `for_seconds`."""

    for_seconds: float = Field(gt=0)


class PreemptionConfig(_When):
    """A replica is taken away `notice_seconds` after a notice, and its lease ends. After `back_after_seconds` another takes its
    place; none does where that is left out."""

    notice_seconds: float = Field(default=30.0, ge=0)
    back_after_seconds: float | None = Field(default=None, gt=0)


class Absence(NamedTuple):
    """A replica that is taken away. Seconds since the run began: of the notice, from when it is gone, and when another is in its
    place; infinite where none is."""

    replica: str
    notice_seconds: float
    gone_seconds: float
    back_seconds: float


class PriceChangeConfig(Shape):
    """At `at_seconds` a backend costs `factor` times what it cost at the start, or, where it is leased, `usd_per_hour`."""

    at_seconds: float = Field(ge=0)
    backend: str
    factor: float | None = Field(default=None, ge=0)
    usd_per_hour: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.factor is None) == (self.usd_per_hour is None):
            raise ValueError("it takes either `factor` or `usd_per_hour`")
        return self

    def after(self, price: Price) -> Price:
        """Raises ValueError for dollars an hour of a backend that is paid by the token."""
        price_id = f"{price.price_id}, from {self.at_seconds:g} s"
        if isinstance(price, LeasedPrice):
            if self.usd_per_hour is not None:
                return replace(
                    price, price_id=price_id, nanousd_per_hour=nanousd_from_usd(Decimal(str(self.usd_per_hour)))
                )
            return replace(price, price_id=price_id, nanousd_per_hour=round(price.nanousd_per_hour * self._factor))
        if self.usd_per_hour is not None:
            raise ValueError(f"{self.backend} is paid by the token; its price can change by a `factor`")
        service_tiers = tuple(self._scaled(one) for one in price.service_tiers)
        fees = tuple((tool, round(nanousd * self._factor)) for tool, nanousd in price.tool_call_nanousd)
        return replace(self._scaled(price), price_id=price_id, service_tiers=service_tiers, tool_call_nanousd=fees)

    def _scaled(self, tariff: AnyTariff) -> AnyTariff:
        return replace(
            tariff,
            rates=self._rates(tariff.rates),
            tiers=tuple(replace(tier, rates=self._rates(tier.rates)) for tier in tariff.tiers),
            request_nanousd=round(tariff.request_nanousd * self._factor),
            audio_nanousd_per_hour=round(tariff.audio_nanousd_per_hour * self._factor),
        )

    @property
    def _factor(self) -> float:
        assert self.factor is not None
        return self.factor

    def _rates(self, rates: TokenRates) -> TokenRates:
        return TokenRates(
            *(round(rate * self._factor) for rate in (rates.prompt, rates.cached, rates.cache_write, rates.completion))
        )


def schedule(
    world: World,
    *,
    failures: Iterable[FailureConfig],
    preemptions: Iterable[PreemptionConfig],
    price_changes: Iterable[PriceChangeConfig],
    prices: Mapping[str, Price],
    seed: int,
) -> None:
    """Put all of it into the world's queue. prices: at the start."""
    for number, failure in enumerate(failures):
        fail = partial(_fail, world, failure.for_seconds)
        _befall(world, failure, fail, f"{seed}/failure {number}")
    for number, preemption in enumerate(preemptions):
        take = partial(_preempt, world, preemption.notice_seconds, preemption.back_after_seconds)
        _befall(world, preemption, take, f"{seed}/preemption {number}")
    for change in price_changes:
        price = change.after(prices[change.backend])
        world.at(change.at_seconds, partial(world.reprice, change.backend, price))


def absences(
    preemptions: Iterable[PreemptionConfig], replicas: Mapping[str, Sequence[str]], until_seconds: float, seed: int
) -> list[Absence]:
    """When which replica is taken away in such a world, in the order of the notices: what is told of one that has had its notice,
    or is gone, comes to nothing. replicas: by backend, at the start."""
    notices = [
        (at_seconds, replica, preemption)
        for number, preemption in enumerate(preemptions)
        for at_seconds, replica in moments(
            preemption, replicas.get(preemption.backend, ()), until_seconds, f"{seed}/preemption {number}"
        )
    ]
    there_from: dict[str, float] = {}
    found = []
    for at_seconds, replica, preemption in sorted(notices, key=lambda notice: notice[0]):
        if at_seconds < there_from.get(replica, 0.0):
            continue
        gone = at_seconds + preemption.notice_seconds
        back = inf if preemption.back_after_seconds is None else gone + preemption.back_after_seconds
        there_from[replica] = back = back if back < until_seconds else inf
        found.append(Absence(replica, at_seconds, gone, back))
    return found


def moments(when: _When, replicas: Iterable[str], until_seconds: float, seed: str) -> Iterator[tuple[float, str]]:
    """When it befalls which replica; of what comes by chance, one replica after the other."""
    if when.at_seconds is not None:
        yield when.at_seconds, when.replica
        return
    assert when.every_seconds is not None
    for replica in replicas:
        random, at_seconds = Random(f"{seed}/{replica}"), 0.0
        while (at_seconds := at_seconds + random.expovariate(1 / when.every_seconds)) < until_seconds:
            yield at_seconds, replica


def _fail(world: World, for_seconds: float, replica: str) -> None:
    world.fail(replica, for_seconds)


def _preempt(world: World, notice_seconds: float, back_after_seconds: float | None, replica: str) -> None:
    world.preempt(replica, notice_seconds, back_after_seconds)


def _befall(world: World, when: _When, act: Callable[[str], None], seed: str) -> None:
    replicas = [one.id for one in world.fleet.backends[when.backend].replicas] if when.backend else []
    for at_seconds, replica in moments(when, replicas, world.until_seconds, seed):
        world.at(at_seconds, partial(act, replica))
