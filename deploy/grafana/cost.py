"""The board *Cost*: what is paid, for what, by whom, and how sure that is."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import BACKEND, DEPLOYMENT, MODEL, POOL, TENANT, TIER, Row, board
from deploy.grafana.panels import (
    BLUE,
    BYTES,
    COUNT,
    EVENTS_PER_SECOND,
    FULL,
    GREEN,
    HALF,
    ORANGE,
    QUARTER,
    RATIO,
    RED,
    THIRD,
    USD,
    Column,
    Query,
    figure,
    gauges,
    graph,
    sheet,
    steps,
)
from deploy.grafana.queries import (
    ACCOUNT,
    JOB,
    LANGUAGE,
    PER_MILLION,
    PLACE,
    SECONDS_PER_DAY,
    SECONDS_PER_HOUR,
    pace,
    rate,
    share,
    spent,
    total,
    where,
)
from deploy.grafana.queries import (
    BACKEND as OF_BACKEND,
)
from deploy.grafana.queries import (
    TENANT as OF_TENANT,
)

BILL, IDLE, LOST = (where(f"jeton_{name}_usd_total", PLACE) for name in ("bill", "idle", "lost"))
SAVED = where("jeton_saved_usd_total", OF_TENANT)
COUNTERFACTUAL = where("jeton_saved_usd_total", OF_TENANT, 'method="counterfactual"')
POSITION, SECONDS_PART = "jeton_ledger_position", 'part="seconds"'
ALLOCATED, STANDARD = 'basis="allocated"', 'basis="standard"'
COST = where("jeton_cost_usd_total", ACCOUNT, ALLOCATED)
TOKENS = where("jeton_tokens_total", ACCOUNT, LANGUAGE)
USAGE, UNPRICED = where("jeton_usage_total", JOB), where("jeton_unpriced_attempts_total", OF_BACKEND)
GUESSED = where("jeton_usage_total", JOB, 'source!="provider"')
NOT_CURRENT = 'state!="current"'
# Some fleets have no leases, some no faults.
NONE = "or vector(0)"


def by_place(name: str, *conditions: str) -> str:
    """Of the recorded rates, by pool and backend."""
    return total(where(name, PLACE, *conditions), "pool", "backend")


BILL_RATE, IDLE_RATE = by_place("backend:jeton_bill_usd:rate5m"), by_place("backend:jeton_idle_usd:rate5m")
ALLOCATED_RATE = by_place("account:jeton_cost_usd:rate5m", ALLOCATED)
STANDARD_RATE = by_place("account:jeton_cost_usd:rate5m", STANDARD)
LOST_RATE = f"{total(f'rate({LOST}[5m])', 'pool', 'backend')}"
SERVED_RATE = f"({ALLOCATED_RATE} - {LOST_RATE})"
# Where batches are better than their target, work costs less than its standard price: then all of it is useful, nothing is thin.
THIN_RATE = f"clamp_min({SERVED_RATE} - {STANDARD_RATE}, 0)"
HOURLY = f" * {SECONDS_PER_HOUR}"


def price_by(label: str) -> tuple[Query, ...]:
    """$ per million tokens by a label of the account, on both bases."""
    cost = total(where("account:jeton_cost_usd:rate5m", ACCOUNT), label, "basis")
    tokens = total(where("account:jeton_tokens:rate5m", ACCOUNT), label)
    return (
        Query(f"{PER_MILLION}{cost} / on ({label}) group_left () ({tokens} > 0)", f"{{{{{label}}}}} {{{{basis}}}}"),
    )


def _spent_at_standard(*by: str) -> str:
    return spent(where("jeton_cost_usd_total", PLACE, STANDARD), *by)


def _served(*by: str) -> str:
    return f"({spent(where('jeton_cost_usd_total', PLACE, ALLOCATED), *by)} - {spent(LOST, *by)})"


def _thin(*by: str) -> str:
    return f"clamp_min({_served(*by)} - {_spent_at_standard(*by)}, 0)"


WHAT_IT_COSTS = Row(
    "What it costs",
    [
        figure(
            "A day at the present rate",
            Query(f"{rate(BILL)} * {SECONDS_PER_DAY}"),
            unit=USD,
            decimals=2,
            text="The bill of the last minute or so, extended to a day.",
            has_line=True,
        ),
        figure(
            "Bill in the time shown",
            Query(spent(BILL)),
            unit=USD,
            decimals=4,
            text="Leases by the hour, busy or not, and metered backends by use: the ledger's own figure.",
        ),
        figure("Bill since the ledger began", Query(total(BILL)), unit=USD, decimals=4),
        figure(
            "Of it idle, in the time shown",
            Query(share(spent(IDLE), spent(BILL))),
            unit=RATIO,
            decimals=1,
            text="Leased time in which nothing ran.",
            thresholds=steps((0.5, ORANGE), (0.8, RED)),
        ),
        figure(
            "Saved in the time shown",
            Query(spent(SAVED, "method"), "{{method}}"),
            unit=USD,
            decimals=4,
            text="counterfactual: the same tokens at the baseline's price, less the cost here. holdout: measured on requests"
            " that chance sent to the baseline. Without idle time.",
        ),
        figure(
            "Bill − cost − idle",
            Query(f"{total(BILL)} - {total(where('jeton_cost_usd_total', PLACE, ALLOCATED))} - ({total(IDLE)} {NONE})"),
            unit=USD,
            decimals=6,
            text="0, but for less than a nano-dollar for each running attempt: nothing is lost or counted twice.",
            thresholds=steps((-1e-6, GREEN), (1e-6, RED), base=RED),
        ),
    ],
)

WHERE_IT_WENT = Row(
    "Where each GPU dollar went",
    [
        graph(
            "Dollars an hour",
            Query(f"sum({SERVED_RATE} - {THIN_RATE}){HOURLY}", "useful"),
            Query(f"sum({THIN_RATE}){HOURLY}", "thin"),
            Query(f"sum({IDLE_RATE}){HOURLY} {NONE}", "idle"),
            Query(f"sum({LOST_RATE}){HOURLY} {NONE}", "lost"),
            unit=USD,
            decimals=4,
            text="Together they are the bill. useful: what was served, at its standard price. thin: what that cost beyond it,"
            " because too few requests shared a replica; work that has not ended yet is in it until it ends. idle: nothing ran."
            " lost: attempts that bought no answer. The standard price is of all attempts here; `jeton report` draws the line"
            " between useful and thin by those that were served, hour by hour.",
            width=THIRD * 2,
            is_stacked=True,
            floor=None,
            colours={"useful": GREEN, "thin": ORANGE, "idle": RED, "lost": BLUE},
        ),
        graph(
            "Lost: what bought no answer, dollars an hour",
            Query(f"{rate(LOST, 'why')}{HOURLY}", "{{why}}"),
            unit=USD,
            decimals=6,
            text="failed: the backend did not deliver. cut_short: jeton ended it before its answer was whole (deadline, not"
            " accepted, shutdown). router_died: jeton was gone before it knew.",
            width=THIRD,
            floor=None,
        ),
        sheet(
            "In the time shown",
            ["pool", "backend"],
            [
                Column("Bill", spent(BILL, "pool", "backend")),
                Column("Useful", f"{_served('pool', 'backend')} - {_thin('pool', 'backend')}"),
                Column("Thin", _thin("pool", "backend")),
                Column("Idle", spent(IDLE, "pool", "backend")),
                Column("Lost", spent(LOST, "pool", "backend"), decimals=6),
                Column(
                    "Idle, of the bill",
                    share(spent(IDLE, "pool", "backend"), spent(BILL, "pool", "backend")),
                    RATIO,
                    1,
                ),
            ],
            text="Bill = useful + thin + idle + lost.",
        ),
    ],
)

PRICE_OF_A_TOKEN = Row(
    "What a million tokens cost",
    [
        graph("By pool", *price_by("pool"), unit=USD, decimals=3, width=THIRD),
        graph("By tier", *price_by("tier"), unit=USD, decimals=3, width=THIRD),
        graph("By model", *price_by("model"), unit=USD, decimals=3, width=THIRD),
        graph(
            "By class",
            Query(
                f"max by (backend, class, basis) ({where('jeton_token_cost_usd_per_million', PLACE)})",
                "{{backend}} {{class}} {{basis}}",
            ),
            unit=USD,
            decimals=3,
            text="Prompt (not cached), cached and completion tokens of the last five minutes. The ratio of output to input"
            " follows the load, as it does on the GPU.",
        ),
        graph(
            "By pool, idle time paid, too",
            Query(
                f"{PER_MILLION}sum by (pool) ({BILL_RATE})"
                f" / (sum by (pool) ({total(where('account:jeton_tokens:rate5m', PLACE), 'pool', 'backend')}) > 0)",
                "{{pool}}",
            ),
            unit=USD,
            decimals=3,
            text="The whole bill, shared among the tokens that were served: what to hold against a cloud's list price.",
        ),
    ],
)

WHO_PAYS = Row(
    "Who pays, and how much is left",
    [
        sheet(
            "Tenants, in the time shown",
            ["tenant"],
            [
                Column("Cost", spent(COST, "tenant")),
                Column("Tokens", spent(TOKENS, "tenant"), COUNT, None),
                Column(
                    "A million tokens",
                    f"{PER_MILLION}{spent(COST, 'tenant')} / ({spent(TOKENS, 'tenant')} > 0)",
                    decimals=3,
                ),
                Column("Saved (counterfactual)", spent(COUNTERFACTUAL, "tenant")),
            ],
            width=HALF,
        ),
        graph(
            "Tenants, dollars an hour",
            Query(f"{rate(COST, 'tenant')}{HOURLY}", "{{tenant}}"),
            unit=USD,
            decimals=4,
            is_stacked=True,
            floor=None,
        ),
        gauges(
            "Budgets used: spent, or held for running requests",
            Query(
                f"max by (tenant, api_key, per) ({where('jeton_budget_used_ratio', OF_TENANT)})",
                "{{tenant}} {{api_key}} per {{per}}",
            ),
            thresholds=steps((0.8, ORANGE), (1, RED)),
            width=THIRD,
        ),
        graph(
            "Budgets, left",
            Query(f"min by (tenant) ({where('jeton_budget_remaining_usd', OF_TENANT)})", "{{tenant}}"),
            unit=USD,
            decimals=4,
            text="Not spent yet of the scarcest budget of each tenant. It renews by calendar day or month, UTC.",
            width=THIRD,
            floor=None,
            thresholds=steps((0, GREEN), base=RED),
        ),
        graph(
            "Budgets, how long they last at the present rate",
            Query(
                f"min by (tenant) ({where('jeton_budget_remaining_usd', OF_TENANT)})"
                f" / on (tenant) (sum by (tenant) ({where('account:jeton_cost_usd:rate5m', OF_TENANT, ALLOCATED)}) > 0)",
                "{{tenant}}",
            ),
            unit="s",
            decimals=1,
            width=THIRD,
        ),
        graph(
            "Requests that a budget refused, or sent to cheaper tiers or pools, per second",
            Query(rate(where("jeton_budget_refusals_total", OF_TENANT), "tenant", "code"), "{{tenant}} {{code}}"),
            Query(rate(where("jeton_budget_degraded_total", OF_TENANT), "tenant"), "{{tenant}} degraded"),
            unit="reqps",
            width=FULL,
        ),
    ],
)

WHAT_ROUTING_SAVED = Row(
    "What routing saved",
    [
        graph(
            "Dollars an hour, by how it is known",
            Query(f"{pace(SAVED, 'method')}{HOURLY}", "{{method}}"),
            unit=USD,
            decimals=4,
            width=THIRD * 2,
            floor=None,
        ),
        figure(
            "In the time shown, idle time paid",
            Query(f"{spent(COUNTERFACTUAL)} - ({spent(where('jeton_idle_usd_total', JOB))} {NONE})"),
            unit=USD,
            decimals=4,
            text="Counterfactual savings less what idled: a baseline that is bought by the token has no idle time.",
            width=THIRD,
            thresholds=steps((0, GREEN), base=RED),
        ),
    ],
)

HOW_SURE_IT_IS = Row(
    "How sure that is",
    [
        figure(
            "Attempts without a price, in the time shown",
            Query(share(spent(UNPRICED), spent(USAGE))),
            unit=RATIO,
            decimals=2,
            text="Their cost is unknown and in no figure here.",
            thresholds=steps((1e-9, RED)),
            width=QUARTER,
        ),
        figure(
            "Attempts with estimated usage, in the time shown",
            Query(share(f"({spent(GUESSED)} {NONE})", spent(USAGE))),
            unit=RATIO,
            decimals=2,
            text="What was missing or absurd in the backend's usage is estimated, and billed so.",
            thresholds=steps((0.01, ORANGE), (0.05, RED)),
            width=QUARTER,
        ),
        figure(
            "Prices not confirmed lately, or unknown",
            Query(
                f"count(max by (backend, state) ({where('jeton_price_state', OF_BACKEND, NOT_CURRENT)}) == 1) {NONE}"
            ),
            unit=COUNT,
            text="Backends whose price nobody has seen to hold for too long, or that have none.",
            thresholds=steps((1, ORANGE)),
            width=QUARTER,
        ),
        figure(
            "Corrections since the ledger began",
            Query(f"{total(where('jeton_corrections_usd', PLACE))} {NONE}"),
            unit=USD,
            decimals=6,
            text="What workers that had been taken for dead said after all: in no other figure here, but in `jeton ledger sum`"
            " and in reports.",
            width=QUARTER,
        ),
        graph(
            "Attempts per second, by how their tokens are known",
            Query(rate(USAGE, "source"), "{{source}}"),
            unit=EVENTS_PER_SECOND,
            width=THIRD,
            is_stacked=True,
        ),
        graph(
            "Age of prices",
            Query(f"max by (backend) ({where('jeton_price_age_seconds', OF_BACKEND)})", "{{backend}}"),
            unit="s",
            decimals=1,
            width=THIRD,
            thresholds=steps((365 * SECONDS_PER_DAY, ORANGE)),
            text="Since a price was last known to hold: its row's first day, the day it was confirmed, or its feed's last word.",
        ),
        graph(
            "Tokens booked ÷ tokens that the replicas count",
            Query(f"sum by (backend) ({where('jeton_meter_drift_ratio', OF_BACKEND)})", "{{backend}}"),
            unit="none",
            decimals=3,
            width=THIRD,
            text="1 where all agree. Below: work in flight, or traffic at the replicas that is not ours. Above: tokens booked"
            " that were not made, or a replica that was started anew.",
            floor=None,
            thresholds=steps((0.9, GREEN), (1.1, ORANGE), base=ORANGE),
        ),
        graph(
            "Price feeds, by what they told",
            Query(rate(where("jeton_price_feed_polls_total", JOB), "feed", "result"), "{{feed}} {{result}}"),
            unit=EVENTS_PER_SECOND,
            width=FULL,
            text="refused: not believed. unreachable: nothing was told. The last good price stays.",
        ),
    ],
)

THE_BOOKS = Row(
    "The books",
    [
        figure(
            "Ledger can be written",
            Query(f"min({where('jeton_ledger_accepting', JOB)})"),
            unit="bool_yes_no",
            thresholds=steps((1, GREEN), base=RED),
        ),
        figure(
            "Ledger is behind by",
            Query(f"time() - max({where(POSITION, JOB, SECONDS_PART)})"),
            unit="s",
            decimals=0,
            text="Up to when leases are booked.",
            thresholds=steps((60, ORANGE), (300, RED)),
        ),
        figure(
            "Attempts not written down",
            Query(total(where("jeton_unrecorded_attempts_total", JOB))),
            unit=COUNT,
            text="On leased replicas, while the ledger was full: their money is in idle.",
            thresholds=steps((1, RED)),
            width=THIRD,
        ),
        figure(
            "Events told too late",
            Query(total(where("jeton_late_events_total", JOB))),
            unit=COUNT,
            text="Workers told them of a time that was booked already; they were booked as of when they were told.",
            thresholds=steps((1, ORANGE)),
            width=THIRD,
        ),
        graph(
            "How far the books of several workers are behind",
            Query(f"max({where('jeton_ledger_lag_seconds', JOB)})", "behind"),
            unit="s",
            decimals=2,
            text="A worker that is not heard of holds them up until it is taken for dead (`silence_seconds`).",
            thresholds=steps((10, ORANGE), (60, RED)),
        ),
        graph(
            "Spool: what waits until PostgreSQL is back",
            Query(f"sum({where('jeton_ledger_spool_bytes', JOB)})", "waiting"),
            Query(f"sum({where('jeton_ledger_spool_bytes_max', JOB)})", "room"),
            unit=BYTES,
            text="When there is no room left, metered traffic is refused; nothing is dropped.",
        ),
    ],
)


def cost() -> Dashboard:
    return board(
        "Cost",
        "What is paid, for what, by whom, and how sure that is. All amounts are the ledger's, in US dollars.",
        [DEPLOYMENT, POOL, BACKEND, MODEL, TIER, TENANT],
        [WHAT_IT_COSTS, WHERE_IT_WENT, PRICE_OF_A_TOKEN, WHO_PAYS, WHAT_ROUTING_SAVED, HOW_SURE_IT_IS, THE_BOOKS],
    )
