"""The board *Serving*: how fast, how reliably, and what is wrong just now."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import BACKEND, DEPLOYMENT, POOL, Row, board
from deploy.grafana.panels import (
    COUNT,
    EVENTS_PER_SECOND,
    FULL,
    GREEN,
    ORANGE,
    PER_SECOND,
    RATIO,
    RED,
    SECONDS,
    THIRD,
    Query,
    figure,
    graph,
    heat,
    states,
    steps,
)
from deploy.grafana.queries import BACKEND as OF_BACKEND
from deploy.grafana.queries import JOB, PLACE, quantile, rate, risen, share, where

REQUESTS = where("jeton_requests_total", JOB)
FAILED = where("jeton_requests_total", JOB, 'status=~"5..|other"')
SHED = where("jeton_refusals_total", JOB, 'code="overloaded"')
CHANGES = where("jeton_replica_changes_total", OF_BACKEND, 'state!="up"')
MOVES, TOLD = where("jeton_discovered_replicas_total", OF_BACKEND), where("jeton_discoveries_total", OF_BACKEND)
# The targets of the objectives in deploy/prometheus/recording.rules.yaml.
ANSWERED_MIN, IN_TIME_MIN = 0.999, 0.95


def quantiles(name: str, conditions: str, *by: str) -> list[Query]:
    names = " ".join(f"{{{{{label}}}}}" for label in by)
    return [Query(quantile(q, name, conditions, *by), f"{names} p{q * 100:g}".strip()) for q in (0.5, 0.95, 0.99)]


def burn(record: str, allowed: float) -> list[Query]:
    """How many times faster than allowed the objective's slack is used up."""
    windows = ("5m", "1h", "6h", "3d")
    return [Query(f"max({where(f'{record}{window}', JOB)}) / {allowed:g}", window) for window in windows]


AT_A_GLANCE = Row(
    "At a glance",
    [
        figure("Requests per second", Query(rate(REQUESTS)), unit=PER_SECOND, decimals=2, has_line=True),
        figure(
            "Failed",
            Query(share(f"({rate(FAILED)} or vector(0))", rate(REQUESTS))),
            unit=RATIO,
            decimals=2,
            text="Answered with a status of 500 or above.",
            thresholds=steps((1 - ANSWERED_MIN, ORANGE), (0.01, RED)),
        ),
        figure(
            "First token, p95",
            Query(quantile(0.95, "jeton_ttft_seconds", PLACE)),
            unit=SECONDS,
            thresholds=steps((1, ORANGE), (2, RED)),
        ),
        figure(
            "jeton itself, p99",
            Query(quantile(0.99, "jeton_overhead_seconds", JOB)),
            unit=SECONDS,
            text="From a request's arrival to its first dispatch.",
            thresholds=steps((0.01, ORANGE), (0.05, RED)),
        ),
        figure("In flight", Query(f"sum({where('jeton_in_flight', OF_BACKEND)})"), unit=COUNT, has_line=True),
        figure(
            "Replicas that take no work",
            Query(f"count(max by (backend, replica) ({where('jeton_replica_up', OF_BACKEND)}) == 0) or vector(0)"),
            unit=COUNT,
            thresholds=steps((1, ORANGE)),
        ),
    ],
)

HOW_FAST = Row(
    "How fast",
    [
        graph("Time to the first token, by backend", *quantiles("jeton_ttft_seconds", PLACE, "backend"), unit=SECONDS),
        heat("Time to the first token", rate(where("jeton_ttft_seconds_bucket", PLACE), "le"), unit=SECONDS),
        graph(
            "Time per token after the first, by backend",
            *quantiles("jeton_tpot_seconds", PLACE, "backend"),
            unit=SECONDS,
            text="TPOT: of each streamed answer the mean, as the client took it. 0.1 s is faster than people read.",
        ),
        heat("Time per token after the first", rate(where("jeton_tpot_seconds_bucket", PLACE), "le"), unit=SECONDS),
        graph("Whole requests, by backend", *quantiles("jeton_request_seconds", PLACE, "backend"), unit=SECONDS),
        graph("jeton's own time", *quantiles("jeton_overhead_seconds", JOB), unit=SECONDS),
    ],
)

HOW_RELIABLY = Row(
    "How reliably",
    [
        graph(
            "Requests by status",
            Query(rate(REQUESTS, "status"), "{{status}}"),
            unit=PER_SECOND,
            width=THIRD,
            is_stacked=True,
            text="499: the client left.",
        ),
        graph(
            "Requests by endpoint",
            Query(rate(REQUESTS, "endpoint"), "{{endpoint}}"),
            unit=PER_SECOND,
            width=THIRD,
            is_stacked=True,
        ),
        graph(
            "Attempts that went wrong, by fault",
            Query(
                rate(where("jeton_attempts_total", OF_BACKEND, 'status!="ok"'), "backend", "fault"),
                "{{backend}} {{fault}}",
            ),
            unit=EVENTS_PER_SECOND,
            width=THIRD,
            is_stacked=True,
            text="Another replica takes over before the first byte; what happened is in the ledger.",
        ),
        graph(
            "Turned away, because there was too much",
            Query(f"{rate(SHED)} or vector(0)", "overloaded"),
            unit=PER_SECOND,
            width=THIRD,
            text="By criticality: `sheddable` requests first, `critical` ones never.",
            thresholds=steps((1, ORANGE)),
        ),
        graph(
            "How fast the slack of the objective `answered` is used up",
            *burn("job:jeton_requests_failed:ratio_rate", 1 - ANSWERED_MIN),
            unit="none",
            decimals=2,
            width=THIRD,
            text=f"Objective: {ANSWERED_MIN:.1%} of requests answered. 1: used up exactly at the end of the month;"
            " 14.4 over an hour is an alert.",
            thresholds=steps((1, ORANGE), (14.4, RED)),
        ),
        graph(
            "How fast the slack of the objective `begun in time` is used up",
            *burn("job:jeton_ttft_late:ratio_rate", 1 - IN_TIME_MIN),
            unit="none",
            decimals=2,
            width=THIRD,
            text=f"Objective: {IN_TIME_MIN:.0%} of streams begun within 2 s.",
            thresholds=steps((1, ORANGE), (14.4, RED)),
        ),
    ],
)

REPLICAS = Row(
    "Replicas",
    [
        states(
            "Taking new work",
            Query(f"max by (backend, replica) ({where('jeton_replica_up', OF_BACKEND)})", "{{replica}}"),
            {0: ("left alone", RED), 1: ("up", GREEN)},
            text="A replica that fails five times in a row is left alone for a while.",
        ),
        graph(
            "Replicas, by state",
            Query(f"sum by (state) (avg by (backend, state) ({where('jeton_replicas', OF_BACKEND)}))", "{{state}}"),
            unit=COUNT,
            is_stacked=True,
            text="limited: asked us to wait. ejected: its answers failed, the breaker is open. leaving: it will be taken away, as"
            " a spot instance is. down: its health check fails. locked_out: it refuses our API key.",
            colours={"up": GREEN, "down": RED, "ejected": ORANGE},
        ),
        graph(
            "Breakers opened, spot instances leaving, and what else took replicas out",
            Query(risen(CHANGES, "backend", "state"), "{{backend}} {{state}}"),
            unit=COUNT,
            is_stacked=True,
            text="Times that a replica came into a state other than up, as each process saw it.",
        ),
        graph(
            "In flight, by replica",
            Query(f"sum by (replica) ({where('jeton_in_flight', OF_BACKEND)})", "{{replica}}"),
            unit=COUNT,
            is_stacked=True,
        ),
        graph(
            "Age of what is known of a replica",
            Query(f"max by (replica) ({where('jeton_scrape_age_seconds', OF_BACKEND)})", "{{replica}}"),
            unit=SECONDS,
            decimals=1,
            text="Since its metrics were last read; what is older than `health.stale_seconds` is not believed.",
            thresholds=steps((10, ORANGE), (30, RED)),
        ),
        graph(
            "Configurations read again",
            Query(risen(where("jeton_reloads_total", JOB), "result"), "{{result}}"),
            unit=COUNT,
            text="refused: mistakes in the files, the old configuration stays.",
        ),
        graph(
            "Which version runs",
            Query(f"count by (version) ({where('jeton_build_info', JOB)})", "{{version}}"),
            unit=COUNT,
            width=FULL,
        ),
    ],
)

DISCOVERED = Row(
    "Replicas that are looked for",
    [
        graph(
            "Replicas found and gone",
            Query(risen(MOVES, "backend", "move"), "{{backend}} {{move}}"),
            unit=COUNT,
            width=THIRD,
            is_stacked=True,
            text="By what a file, DNS or Kubernetes told, and counted by each process that looks. gone: no longer told, and its"
            " grace is over.",
        ),
        graph(
            "Answers of the sources",
            Query(rate(TOLD, "backend", "result"), "{{backend}} {{result}}"),
            unit=EVENTS_PER_SECOND,
            width=THIRD,
            text="failed: nothing was told, and what was known stays.",
        ),
        graph(
            "Sources that cannot tell, since when",
            Query(f"max by (backend) ({where('jeton_discovery_stale_seconds', OF_BACKEND)})", "{{backend}}"),
            unit=SECONDS,
            width=THIRD,
            thresholds=steps((60, ORANGE), (300, RED)),
        ),
    ],
)


def serving() -> Dashboard:
    return board(
        "Serving",
        "How fast, how reliably, and what is wrong just now.",
        [DEPLOYMENT, POOL, BACKEND],
        [AT_A_GLANCE, HOW_FAST, HOW_RELIABLY, REPLICAS, DISCOVERED],
    )
