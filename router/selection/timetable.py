"""Which policy decides on a request: by who asks, for which name, and at what time of the week. Times come from the caller."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from router.domain.decision import Policy

MINUTES_PER_DAY = 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NS_PER_MINUTE = 60 * 10**9
# 1970-01-01 was a Thursday.
EPOCH_WEEKDAY = 3
HOURS = r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])"


class Named(NamedTuple):
    """A policy and what it is called."""

    name: str
    policy: Policy


class Span(NamedTuple):
    """Minutes of a day in UTC, start included; one that ends before it starts goes over midnight."""

    start_minute: int
    end_minute: int

    def includes(self, minute: int) -> bool:
        if self.start_minute <= self.end_minute:
            return self.start_minute <= minute < self.end_minute
        return minute >= self.start_minute or minute < self.end_minute


ALL_DAY = Span(0, MINUTES_PER_DAY)


def span_of(hours: str) -> Span:
    """From `HH:MM-HH:MM`; "" is all day. Raises ValueError for what is no such time."""
    if not hours:
        return ALL_DAY
    found = re.fullmatch(HOURS, hours)
    if found is None:
        raise ValueError(f"`{hours}` is no time of the day")
    start_hour, start, end_hour, end = map(int, found.groups())
    span = Span(start_hour * 60 + start, end_hour * 60 + end)
    if span.end_minute > MINUTES_PER_DAY or span.start_minute == span.end_minute:
        raise ValueError(f"`{hours}` is no time of the day")
    return span


class Rule(NamedTuple):
    """chosen decides on requests of these tenants for these names (empty: all) in this span of these days (0 is Monday). A span
    that goes over midnight belongs to the day on which it starts."""

    chosen: Named
    tenants: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    span: Span = ALL_DAY
    days: frozenset[int] = frozenset(range(7))

    def covers(self, tenant: str, model: str, weekday: int, minute: int) -> bool:
        if (self.tenants and tenant not in self.tenants) or (self.models and model not in self.models):
            return False
        if not self.span.includes(minute):
            return False
        is_past_midnight = self.span.start_minute > self.span.end_minute and minute < self.span.end_minute
        return (weekday - is_past_midnight) % 7 in self.days


class Timetable:
    """The first rule that covers a request decides, else the default."""

    __slots__ = ("default", "rules")

    def __init__(self, default: Named, rules: Iterable[Rule] = ()) -> None:
        self.default = default
        self.rules = tuple(rules)

    def pick(self, tenant: str, model: str, now_ns: int) -> Named:
        """now_ns: wall-clock time."""
        if not self.rules:
            return self.default
        minutes = now_ns // NS_PER_MINUTE
        days, minute = divmod(minutes, MINUTES_PER_DAY)
        weekday = (days + EPOCH_WEEKDAY) % 7
        for rule in self.rules:
            if rule.covers(tenant, model, weekday, minute):
                return rule.chosen
        return self.default
