"""The board *Routing*: where requests were sent, why, and what became of that."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.board import BACKEND, DEPLOYMENT, POOL, TENANT, TIER, Row, board
from deploy.grafana.panels import (
    BYTES,
    COUNT,
    EVENTS_PER_SECOND,
    HALF,
    ORANGE,
    PER_SECOND,
    RATIO,
    RED,
    SECONDS,
    THIRD,
    Column,
    Query,
    figure,
    graph,
    sheet,
    steps,
)
from deploy.grafana.queries import BACKEND as OF_BACKEND
from deploy.grafana.queries import JOB, PLACE, quantile, rate, share, share_of_all, where

DECISIONS = where("jeton_decisions_total", JOB, 'tier=~"$tier"')
BELOW_FLOOR = where("jeton_decisions_total", JOB, 'reason=~".*below the floor.*"')
ANSWERED = where("jeton_requests_total", PLACE, 'tier=~"$tier"', 'pool!=""')
ATTEMPTS = where("jeton_attempts_total", OF_BACKEND)
RECALLED = where("jeton_cache_requests_total", JOB)
FROM_CACHE = where("jeton_cache_requests_total", JOB, 'result=~"hit|shared"')
TOKENS = where("jeton_tokens_total", PLACE, 'tier=~"$tier"', 'tenant=~"$tenant"')


def tokens(kind: str, *by: str) -> str:
    return rate(f'{TOKENS[:-1]},class="{kind}"}}', *by)


AT_A_GLANCE = Row(
    "At a glance",
    [
        figure("Decisions per second", Query(rate(DECISIONS)), unit=PER_SECOND, decimals=2, has_line=True),
        figure(
            "Sent first to",
            Query(share_of_all(rate(DECISIONS, "tier"), rate(DECISIONS)), "{{tier}}"),
            unit=RATIO,
            decimals=1,
            width=THIRD,
        ),
        figure(
            "Below the quality floor",
            Query(
                share(
                    f"({rate(BELOW_FLOOR)} or vector(0))",
                    rate(where("jeton_decisions_total", JOB)),
                )
            ),
            unit=RATIO,
            decimals=1,
            text="No candidate met the policy's floor of predicted quality; the best there was took it.",
            thresholds=steps((0.2, ORANGE), (0.5, RED)),
        ),
        figure(
            "Attempts for each decision",
            Query(f"{rate(where('jeton_attempts_total', JOB))} / ({rate(where('jeton_decisions_total', JOB))} > 0)"),
            unit="none",
            decimals=3,
            text="1 where the first choice answers; more where others had to take over.",
            thresholds=steps((1.1, ORANGE), (1.5, RED)),
        ),
        figure(
            "Prompt tokens read from prefix caches",
            Query(share(tokens("cached"), tokens("prompt"))),
            unit=RATIO,
            decimals=1,
        ),
    ],
)

DECIDED = Row(
    "What was decided, and why",
    [
        graph("By tier", Query(rate(DECISIONS, "tier"), "{{tier}}"), unit=PER_SECOND, width=THIRD, is_stacked=True),
        graph(
            "By reason",
            Query(rate(DECISIONS, "reason"), "{{reason}}"),
            unit=PER_SECOND,
            width=THIRD,
            is_stacked=True,
            text="The policy's own words, as in the header x-jeton-reason; `holdout` was sent to the baseline by chance.",
        ),
        graph(
            "By policy", Query(rate(DECISIONS, "policy"), "{{policy}}"), unit=PER_SECOND, width=THIRD, is_stacked=True
        ),
        graph(
            "Predicted quality, by tier",
            *(
                Query(
                    quantile(ratio, "jeton_predicted_quality_ratio", f'{JOB},tier=~"$tier"', "tier"),
                    f"{{{{tier}}}} p{ratio * 100:g}",
                )
                for ratio in (0.1, 0.5, 0.9)
            ),
            unit=RATIO,
            decimals=1,
            ceiling=1,
            width=HALF,
            text="Of where requests were sent first, relative to the highest tier. p10: nine in ten are above; hold that against"
            " the policy's floor (`quality_min`). A prediction, not a measurement.",
        ),
        graph(
            "Predicted quality, mean by policy",
            Query(
                f"{rate(where('jeton_predicted_quality_ratio_sum', JOB), 'policy')}"
                f" / ({rate(where('jeton_predicted_quality_ratio_count', JOB), 'policy')} > 0)",
                "{{policy}}",
            ),
            unit=RATIO,
            decimals=1,
            ceiling=1,
            width=HALF,
        ),
        sheet(
            "Reasons",
            ["policy", "tier", "reason"],
            [
                Column("Per second", rate(DECISIONS, "policy", "tier", "reason"), PER_SECOND, 3),
                Column(
                    "Of all",
                    share_of_all(rate(DECISIONS, "policy", "tier", "reason"), rate(DECISIONS)),
                    RATIO,
                    1,
                ),
            ],
        ),
    ],
)

WHERE_IT_WENT = Row(
    "Where it was answered",
    [
        graph(
            "Requests by pool",
            Query(rate(ANSWERED, "pool"), "{{pool}}"),
            unit=PER_SECOND,
            is_stacked=True,
            text="What the pools of one's own cannot take spills over to the cloud.",
        ),
        graph("Requests by backend", Query(rate(ANSWERED, "backend"), "{{backend}}"), unit=PER_SECOND, is_stacked=True),
        graph(
            "Attempts by backend and how they ended",
            Query(rate(ATTEMPTS, "backend", "status"), "{{backend}} {{status}}"),
            unit=EVENTS_PER_SECOND,
            is_stacked=True,
        ),
        graph(
            "Prompt tokens read from prefix caches, by backend",
            Query(share(tokens("cached", "backend"), tokens("prompt", "backend")), "{{backend}}"),
            unit=RATIO,
            decimals=1,
            ceiling=1,
        ),
        graph(
            "Prompt tokens known to be cached where they were computed, by whose requests",
            Query(rate(where("jeton_prefix_known_tokens_total", JOB), "by"), "{{by}}"),
            unit="short",
            text="Estimated. own: the worker that sent them had sent their beginning there before; others: another worker had.",
            width=HALF,
            is_stacked=True,
        ),
        graph(
            "What workers told one another of prefix caches",
            Query(rate(where("jeton_prefix_news_total", JOB), "fate"), "{{fate}}"),
            Query(rate(where("jeton_prefix_news_failures_total", JOB)), "Redis did not answer"),
            unit=EVENTS_PER_SECOND,
            text="given_up: nobody could be told in time; unreadable: messages that are none of ours.",
            width=HALF,
        ),
        graph(
            "Tokens per second, by class",
            Query(rate(TOKENS, "class"), "{{class}}"),
            unit="short",
            text="cached is a part of prompt, reasoning of completion.",
            width=HALF,
        ),
        graph(
            "Requests that were not answered, by what they were told",
            Query(rate(where("jeton_refusals_total", JOB), "code"), "{{code}}"),
            unit=PER_SECOND,
            width=HALF,
            is_stacked=True,
        ),
    ],
)

FROM_THE_CACHE = Row(
    "Answers that were given again",
    [
        graph(
            "Deterministic requests, by what the cache had",
            Query(rate(RECALLED, "result"), "{{result}}"),
            unit=PER_SECOND,
            width=THIRD,
            is_stacked=True,
            text="shared: the answer of an identical request that was under way. bypass: the client did not want a kept one.",
        ),
        graph(
            "Of them answered from the cache",
            Query(share(f"({rate(FROM_CACHE)} or vector(0))", rate(RECALLED)), "hit or shared"),
            unit=RATIO,
            decimals=1,
            ceiling=1,
            width=THIRD,
        ),
        graph(
            "Answered again under an Idempotency-Key",
            Query(rate(where("jeton_repeats_total", JOB)), "repeats"),
            unit=PER_SECOND,
            width=THIRD,
        ),
        graph(
            "Kept in the processes, bytes",
            Query(f"sum({where('jeton_cache_bytes', JOB)})", "bytes"),
            unit=BYTES,
            width=THIRD,
            text="With what is being recorded; `memory_bytes_max` bounds each of the two in each process.",
        ),
        graph(
            "Kept in the processes, answers",
            Query(f"sum({where('jeton_cache_entries', JOB)})", "answers"),
            unit=COUNT,
            decimals=0,
            width=THIRD,
        ),
        graph(
            "What keeps the cache from keeping",
            Query(rate(where("jeton_cache_evictions_total", JOB)), "evicted to make room"),
            Query(rate(where("jeton_cache_store_failures_total", JOB)), "Redis did not answer"),
            unit=EVENTS_PER_SECOND,
            width=THIRD,
        ),
    ],
)


LEARNED = Row(
    "What was learned of metered backends",
    [
        graph(
            "Attempts that are answered",
            Query(
                f"avg by (backend) ({where('jeton_backend_availability_ratio', OF_BACKEND)})",
                "{{backend}}",
            ),
            unit=RATIO,
            decimals=1,
            ceiling=1,
            width=THIRD,
            text="Over the last minutes. Below health.availability_min (80 %) a backend is asked only when nobody else can.",
            thresholds=steps((0.8, ORANGE), (0.95, "green"), base=RED),
        ),
        graph(
            "Forecast to the first token",
            Query(f"avg by (backend) ({where('jeton_backend_ttft_seconds', OF_BACKEND)})", "{{backend}}"),
            unit=SECONDS,
            width=THIRD,
            text="Of a short prompt, without the network to the client; with what failures take.",
        ),
        graph(
            "Forecast for each token after it",
            Query(f"avg by (backend) ({where('jeton_backend_tpot_seconds', OF_BACKEND)})", "{{backend}}"),
            unit=SECONDS,
            width=THIRD,
        ),
    ],
)


def routing() -> Dashboard:
    return board(
        "Routing",
        "Where requests were sent, why, and what became of that.",
        [DEPLOYMENT, POOL, BACKEND, TIER, TENANT],
        [AT_A_GLANCE, DECIDED, WHERE_IT_WENT, LEARNED, FROM_THE_CACHE],
    )
