"""The board *Capacity*: how full the leased replicas are, and how many the work would fill."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import BACKEND, DEPLOYMENT, POOL, Row, board
from deploy.grafana.panels import (
    COUNT,
    HALF,
    ORANGE,
    PER_SECOND,
    RATIO,
    RED,
    SECONDS,
    THIRD,
    USD,
    Column,
    Query,
    gauges,
    graph,
    sheet,
    steps,
)
from deploy.grafana.queries import BACKEND as OF_BACKEND
from deploy.grafana.queries import LANGUAGE, PLACE, SECONDS_PER_HOUR, rate, share, total, where


def leased(record: str, *conditions: str) -> str:
    """A recorded rate by backend, of leased backends alone: metered ones have no replicas to fill."""
    return f"sum by (backend) ({where(record, PLACE, *conditions)} and on (backend) {where('jeton_idle_usd_total', PLACE)})"


BILL, IDLE = leased("backend:jeton_bill_usd:rate5m"), leased("backend:jeton_idle_usd:rate5m")
ALLOCATED = leased("account:jeton_cost_usd:rate5m", 'basis="allocated"')
STANDARD = leased("account:jeton_cost_usd:rate5m", 'basis="standard"')
REPLICAS = total(where("backend:jeton_replicas:count", OF_BACKEND), "backend")
FILLED = total(where("backend:jeton_replicas_filled:rate5m", OF_BACKEND), "backend")
WANTED = f"clamp_min(ceil({FILLED}), 1)"

AT_A_GLANCE = Row(
    "At a glance",
    [
        gauges(
            "Leased time in which something ran",
            Query(f"1 - {share(IDLE, BILL)}", "{{backend}}"),
            text="One request is enough to count as running; how many share a replica is told beside.",
            thresholds=steps((0.2, ORANGE), (0.5, "green"), base=RED),
            width=THIRD,
        ),
        gauges(
            "Filled: work at its standard price, of the bill",
            Query(share(STANDARD, BILL), "{{backend}}"),
            text="1: as full as it should be (`sequences_target` of the engine profile), all the time.",
            thresholds=steps((0.2, ORANGE), (0.5, "green"), base=RED),
            width=THIRD,
        ),
        sheet(
            "Replicas",
            ["backend"],
            [
                Column("There", REPLICAS, COUNT, 0),
                Column("Filled", FILLED, COUNT, 2),
                Column("Wanted", WANTED, COUNT, 0),
                Column("$ an hour", f"{BILL} * {SECONDS_PER_HOUR}", USD, 2),
            ],
            text="Filled: how many replicas the work would fill at its target batch. Wanted: that, rounded up.",
            width=THIRD,
        ),
    ],
)

HOW_FULL = Row(
    "How full",
    [
        graph(
            "Filled, of the bill",
            Query(share(STANDARD, BILL), "{{backend}}"),
            unit=RATIO,
            decimals=1,
            text="Above 1 batches are better than their target.",
        ),
        graph(
            "Thin batches: what work cost ÷ its standard price",
            Query(share(ALLOCATED, STANDARD), "{{backend}}"),
            unit="none",
            decimals=2,
            text="1: as planned. 3: a token costs three times what it would on a replica that is as full as it should be.",
            thresholds=steps((2, ORANGE), (5, RED)),
        ),
        graph(
            "In flight on each replica of a backend",
            Query(
                f"avg by (backend) (sum by (backend, replica) ({where('jeton_in_flight', OF_BACKEND)}))", "{{backend}}"
            ),
            unit=COUNT,
            decimals=1,
        ),
        graph(
            "Tokens per second, by backend",
            Query(rate(where("jeton_tokens_total", PLACE, LANGUAGE), "backend"), "{{backend}}"),
            unit=COUNT,
        ),
        graph("Replicas wanted", Query(WANTED, "{{backend}}"), unit=COUNT, decimals=0),
        graph(
            "Replicas that take work",
            Query(
                f"sum by (backend) (max by (backend, replica) ({where('jeton_replica_up', OF_BACKEND)}))", "{{backend}}"
            ),
            unit=COUNT,
            decimals=0,
        ),
        graph(
            "Dollars an hour, by backend",
            Query(
                f"{total(where('backend:jeton_bill_usd:rate5m', PLACE), 'backend')} * {SECONDS_PER_HOUR}",
                "{{backend}}",
            ),
            unit=USD,
            decimals=2,
            is_stacked=True,
        ),
        graph(
            "Observed ÷ forecast of the engine profile",
            Query(
                f"avg by (replica, kind) ({where('jeton_profile_correction_ratio', OF_BACKEND)})",
                "{{replica}} {{kind}}",
            ),
            unit="none",
            decimals=2,
            text="What forecasts are multiplied by, from what each replica was observed to take; within a half and two.",
            width=HALF,
        ),
        graph(
            "Tokens that a step with drafts yields",
            Query(
                f"avg by (backend, answer_kind) ({where('jeton_backend_tokens_per_step', OF_BACKEND)})",
                "{{backend}} {{answer_kind}}",
            ),
            unit="none",
            decimals=2,
            text="By kind of answer, as learned from how fast such answers came. At 1 no draft is accepted.",
            width=HALF,
        ),
    ],
)


COMING_AND_GOING = Row(
    "Taken away, stopped and started",
    [
        graph(
            "Spot replicas taken away, an hour and replica",
            Query(f"avg by (backend) ({where('jeton_preemptions_per_hour', OF_BACKEND)})", "{{backend}}"),
            unit="none",
            decimals=3,
            width=THIRD,
            text="What was declared (preemption.per_hour), as far as what is seen has not moved it.",
        ),
        graph(
            "Spot replicas taken away in the last 30 days",
            Query(f"max by (backend) ({where('jeton_preemptions_seen', OF_BACKEND)})", "{{backend}}"),
            unit=COUNT,
            decimals=0,
            width=THIRD,
        ),
        graph(
            "Until one that was taken away serves again",
            Query(f"avg by (backend) ({where('jeton_preemption_away_seconds', OF_BACKEND)})", "{{backend}}"),
            unit=SECONDS,
            width=THIRD,
        ),
        graph(
            "Replicas that sleep",
            Query(
                f"sum by (backend) (min by (backend, replica) ({where('jeton_replica_asleep', OF_BACKEND)}))",
                "{{backend}}",
            ),
            unit=COUNT,
            decimals=0,
            text="Of backends with scale_to_zero: nothing was asked of them for their idle time, and their lease has ended.",
        ),
        graph(
            "Starts",
            Query(rate(where("jeton_replica_wakes_total", OF_BACKEND), "backend"), "{{backend}}"),
            unit=PER_SECOND,
            text="Requests that found a replica asleep, waited for it, and pay for its start.",
        ),
    ],
)


def capacity() -> Dashboard:
    return board(
        "Capacity",
        "How full the leased replicas are, and how many the work would fill.",
        [DEPLOYMENT, POOL, BACKEND],
        [AT_A_GLANCE, HOW_FULL, COMING_AND_GOING],
    )
