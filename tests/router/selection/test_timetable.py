"""Who decides at what time."""

from datetime import UTC, datetime

import pytest

from router.selection.timetable import DAYS, Named, Rule, Span, Timetable, span_of


class Nobody:
    def rank(self, request, candidates):
        return []


DEFAULT, NIGHT, OWN = Named("default", Nobody()), Named("night", Nobody()), Named("own", Nobody())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("tenant", "model", "when", "chosen"),
    [
        ("acme", "auto", "2026-11-26T12:00", "own"),  # its own rule comes first
        ("acme", "auto", "2026-11-26T23:00", "own"),
        ("initech", "auto", "2026-11-26T12:00", "default"),
        ("initech", "auto", "2026-11-26T22:00", "night"),
        ("initech", "auto", "2026-11-27T05:59", "night"),
        ("initech", "auto", "2026-11-27T06:00", "default"),
        ("initech", "chat", "2026-11-26T23:00", "default"),  # another name
        ("initech", "auto", "2026-11-28T23:00", "default"),  # a Saturday
        ("initech", "auto", "2026-11-28T03:00", "night"),  # Friday's night
        ("initech", "auto", "2026-11-30T03:00", "default"),  # Sunday's
    ],
)
def test_the_first_rule_that_covers_a_request_decides(tenant: str, model: str, when: str, chosen: str) -> None:
    weekdays = frozenset(DAYS.index(day) for day in ("mon", "tue", "wed", "thu", "fri"))
    table = Timetable(
        DEFAULT,
        [
            Rule(OWN, tenants=frozenset({"acme"})),
            Rule(NIGHT, models=frozenset({"auto"}), span=span_of("22:00-06:00"), days=weekdays),
        ],
    )
    assert table.pick(tenant, model, at(when)).name == chosen


def test_without_rules_the_default_decides() -> None:
    assert Timetable(DEFAULT).pick("acme", "auto", 0) is DEFAULT


@pytest.mark.parametrize(
    ("hours", "span"), [("", Span(0, 1440)), ("09:00-17:30", Span(540, 1050)), ("00:00-24:00", Span(0, 1440))]
)
def test_hours_are_read(hours: str, span: Span) -> None:
    assert span_of(hours) == span


@pytest.mark.parametrize("hours", ["9-17", "09:00-09:00", "25:00-26:00", "09:60-10:00", "09:00-24:30", "always"])
def test_what_is_no_time_is_refused(hours: str) -> None:
    with pytest.raises(ValueError, match="no time of the day"):
        span_of(hours)
