"""What a client asks of the routing of one request, in headers, and where its tenant's rules let it go."""

import asyncio
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from payloads import HELLO
from redis_server import redis_server
from whole_app import WholeApp, running

from router.domain.fleet import Load
from router.domain.money import nanousd_from_usd, usd_text
from router.domain.request import PrefixMark

PATH = "/v1/chat/completions"


def chat(model: str = "anything", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "max_tokens": 20, **more}


async def test_f17_a_deadline_shorter_than_the_queue_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    budget = {"usd": "100", "per": "day"}
    async with running(tmp_path, lambda config: config["tenants"][0].update(budgets=[budget])) as jeton:
        for replica in jeton.app._fleet.snapshot.health:
            jeton.app._fleet._in_flight._loads[replica] = Load(500, 2_000_000, 0, 0)
        refused = await jeton.http.post(PATH, json=chat("small-model"), headers={"x-jeton-deadline-ms": "2000"})
        jeton.app._fleet._in_flight._loads.clear()
        assert refused.status_code == 504
        error = refused.json()["error"]
        assert (error["code"], error["param"]) == ("deadline_unreachable", "x-jeton-deadline-ms")
        assert "within the deadline of 2 s" in error["message"]
        assert refused.headers["x-should-retry"] == "false"  # or OpenAI's SDKs would wait for what cannot be
        assert jeton.seen("small") == []
        (account,) = jeton.app._bursar.of("tests", "tests")
        assert account.held_nanousd == 0
        assert await jeton.charges() == []


async def test_f17_a_deadline_that_passes_cuts_the_backend_off(jeton: WholeApp) -> None:
    jeton.replica("large").faults(stall_before_first_token=True)
    refused = await jeton.http.post(PATH, json=chat("large-model", stream=True), headers={"x-jeton-deadline-ms": "700"})
    assert refused.status_code == 504
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("deadline_passed", "x-jeton-deadline-ms")
    assert error["message"] == "The answer was not there within the request's own deadline of 0.7 s."
    assert refused.headers["x-should-retry"] == "false"
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("cancelled", "deadline")
    await jeton.settled()


async def test_a_price_ceiling_is_kept_or_refused(jeton: WholeApp) -> None:
    good = await jeton.http.post(PATH, json=chat("cloud-model"), headers={"x-jeton-max-usd": "0.01"})
    assert good.status_code == 200
    refused = await jeton.http.post(PATH, json=chat("cloud-model"), headers={"x-jeton-max-usd": "0.0000001"})
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "price_ceiling"
    nonsense = await jeton.http.post(PATH, json=chat(), headers={"x-jeton-max-usd": "much"})
    assert nonsense.json()["error"]["param"] == "x-jeton-max-usd"
    assert len(await jeton.charges()) == 1


async def test_explain_says_what_the_terms_exclude(jeton: WholeApp) -> None:
    told = await jeton.http.post("/jeton/explain", json=chat(), headers={"x-jeton-max-usd": "0.0003"})
    assert told.status_code == 200
    excluded = {one["replica"]: one["why"] for one in told.json()["exclusions"]}
    assert excluded
    assert all("above the request's ceiling of $0.0003" in why for why in excluded.values())
    assert not set(excluded) & {one["replica"] for one in told.json()["ranking"]}
    terms = told.json()["features"]["terms"]
    assert terms == {"cost_usd_max": "0.000300000", "deadline_seconds": None, "criticality": "standard", "region": ""}


@pytest.mark.parametrize(("values", "status"), [(("much", "0.01"), 200), (("0.01", "much"), 400)])
async def test_of_a_term_said_twice_the_last_counts_for_requests_and_for_explain(
    jeton: WholeApp, values: tuple[str, str], status: int
) -> None:
    headers = [("x-jeton-max-usd", value) for value in values]
    for path in (PATH, "/jeton/explain"):
        assert (await jeton.http.post(path, json=chat("cloud-model"), headers=headers)).status_code == status


async def most_nanousd(jeton: WholeApp, body: dict[str, Any]) -> int:
    """What the cheapest attempt at it can cost, from the refusal of a ceiling that nobody can keep."""
    refused = await jeton.http.post(PATH, json=body, headers={"x-jeton-max-usd": "0.000000001"})
    return nanousd_from_usd(Decimal(re.findall(r"up to \$(0\.\d+)", refused.json()["error"]["message"])[0]))


def ceiling(nanousd: int) -> dict[str, str]:
    return {"x-jeton-max-usd": usd_text(nanousd)}


async def test_a_price_ceiling_holds_for_all_attempts_of_a_request(jeton: WholeApp) -> None:
    """What the first replica spent before it broke leaves too little for the second."""
    body = chat("small-model", stream=True)
    most = await most_nanousd(jeton, body)
    jeton.replica("small").faults(eof_after_chunks=0)
    refused = await jeton.http.post(PATH, json=body, headers=ceiling(most))
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("price_ceiling", "x-jeton-max-usd")
    (charge,) = await jeton.charges()
    assert (charge["status"], charge["fault"]) == ("failed", "eof")
    assert 0 < charge["cost_nanousd"] < most
    told = [nanousd_from_usd(Decimal(text)) for text in re.findall(r"\$(0\.\d+)", error["message"])]
    assert told == [most, charge["cost_nanousd"], most]
    await jeton.settled()


async def test_under_a_ceiling_that_has_room_for_it_another_takes_over(jeton: WholeApp) -> None:
    body = chat("small-model", stream=True)
    most = await most_nanousd(jeton, body)
    jeton.replica("small").faults(eof_after_chunks=0)
    answer = await jeton.http.post(PATH, json=body, headers=ceiling(2 * most))
    assert (answer.status_code, answer.headers["x-jeton-attempts"]) == (200, "2")
    assert [row["status"] for row in await jeton.charges()] == ["failed", "ok"]


async def test_an_attempt_that_cost_nothing_leaves_the_whole_ceiling_to_the_next(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_small"}
        config["pools"][2]["backends"][0]["tier"] = "small"
        config["aliases"] = {"both": {"backends": ["cloud", "large"]}, "one1": {"backends": ["cloud"]}}
        config["aliases"]["two2"] = {"backends": ["large"]}  # names as long as the others, for bodies as long

    async with running(tmp_path, change) as jeton:
        most = max([await most_nanousd(jeton, chat(model)) for model in ("one1", "two2")])
        jeton.replica("cloud").faults(status=429)
        answer = await jeton.http.post(PATH, json=chat("both"), headers=ceiling(most))
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")
        first, second = await jeton.charges()
        assert (first["backend"], first["fault"], first["cost_nanousd"]) == ("cloud", "limited", 0)
        assert second["status"] == "ok"


async def test_an_attempt_whose_bill_nobody_knows_yet_counts_at_its_worst(tmp_path: Path) -> None:
    """`cloud` breaks without a usage: what we estimate is little, and what its provider bills may be more."""

    def change(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_small"}
        config["pools"][2]["backends"][0]["tier"] = "small"
        config["aliases"] = {"both": {"backends": ["cloud", "large"]}, "one1": {"backends": ["cloud"]}}
        config["aliases"]["two2"] = {"backends": ["large"]}

    async with running(tmp_path, change) as jeton:
        cloud, large = [await most_nanousd(jeton, chat(model, stream=True)) for model in ("one1", "two2")]
        jeton.replica("cloud").faults(eof_after_chunks=0)
        refused = await jeton.http.post(PATH, json=chat("both", stream=True), headers=ceiling(cloud + large - 1))
        assert refused.status_code == 400
        (charge,) = await jeton.charges()
        assert (charge["backend"], charge["usage_source"]) == ("cloud", "estimated")
        assert 0 < charge["cost_nanousd"] < cloud - 1
        told = [
            nanousd_from_usd(Decimal(text)) for text in re.findall(r"\$(0\.\d+)", refused.json()["error"]["message"])
        ]
        assert told == [cloud + large - 1, cloud, large]
        answer = await jeton.http.post(PATH, json=chat("both", stream=True), headers=ceiling(cloud + large))
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "large")


async def test_a_choice_that_the_rest_of_the_ceiling_forbids_is_passed_over_for_one_that_it_does_not(
    tmp_path: Path,
) -> None:
    """`large`, which breaks, then `cloud`, whose worst case is the whole ceiling, then `small`."""

    def change(config: dict[str, Any]) -> None:
        config["policy"] = {"name": "always_large"}
        config["aliases"] = {"every": {"backends": ["small", "cloud", "large"]}, "solo1": {"backends": ["cloud"]}}

    async with running(tmp_path, change) as jeton:
        terms = ceiling(await most_nanousd(jeton, chat("solo1", stream=True)))
        told = (await jeton.http.post("/jeton/explain", json=chat("every", stream=True), headers=terms)).json()
        assert [one["backend"] for one in told["ranking"]][:3] == ["large", "cloud", "small"]
        jeton.replica("large").faults(eof_after_chunks=0)
        answer = await jeton.http.post(PATH, json=chat("every", stream=True), headers=terms)
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "small")
        assert [(row["backend"], row["status"]) for row in await jeton.charges()] == [
            ("large", "failed"),
            ("small", "ok"),
        ]


def small_may_be_too_short(config: dict[str, Any]) -> None:
    """For a prompt of some 1,500 tokens, by the estimate; the replicas have room enough."""
    config["pools"][0]["backends"][0]["context_tokens"] = 1024
    config["aliases"] = {"both": {"backends": ["small", "cloud"]}, "one1": {"backends": ["small"]}}
    config["tenants"][0]["budgets"] = [{"usd": "1", "per": "total"}]


LONGISH = [{"role": "user", "content": "Tell me about rainbows. " * 250}]


async def test_who_may_be_too_short_is_asked_where_the_ceiling_refuses_all_others(tmp_path: Path) -> None:
    async with running(tmp_path, small_may_be_too_short) as jeton:
        body = chat("both", messages=LONGISH)
        answer = await jeton.http.post(PATH, json=body)
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "cloud")
        most = await most_nanousd(jeton, {**body, "model": "one1"})
        told = (await jeton.http.post("/jeton/explain", json=body, headers=ceiling(most))).json()
        assert {one["backend"] for one in told["ranking"]} == {"small"}
        (excluded,) = told["exclusions"]
        assert excluded["backend"] == "cloud"
        assert "above the request's ceiling" in excluded["why"]
        answer = await jeton.http.post(PATH, json=body, headers=ceiling(most))
        assert (answer.status_code, answer.headers["x-jeton-backend"]) == (200, "small")
        refused = await jeton.http.post(PATH, json=body, headers=ceiling(most - 1))
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "price_ceiling")
        assert refused.json()["error"]["message"].count("cheapest") == 1


async def test_who_may_be_too_short_is_asked_where_a_budget_refuses_all_others(tmp_path: Path) -> None:
    async with running(tmp_path, small_may_be_too_short) as jeton:
        body = chat("both", messages=LONGISH)
        most = await most_nanousd(jeton, {**body, "model": "one1"})
        (account,) = jeton.app._bursar.of("tests", "tests")
        for left, status in ((most, 200), (most - 1, 429)):
            account.spent_nanousd = 10**9 - left
            answer = await jeton.http.post(PATH, json=body)
            assert answer.status_code == status
            await jeton.settled()
        account.spent_nanousd = sum(row["cost_nanousd"] for row in await jeton.charges())
        assert [row["backend"] for row in await jeton.charges()] == ["small"]


async def test_f16_sheddable_work_is_turned_away_while_critical_work_is_served(jeton: WholeApp) -> None:
    replicas = [replica for replica in jeton.app._fleet.snapshot.health if replica.startswith("small")]
    for replica in replicas:
        jeton.app._fleet._in_flight._loads[replica] = Load(100, 400_000, 0, 0)
    refused = await jeton.http.post(PATH, json=chat("small-model"), headers={"x-jeton-criticality": "sheddable"})
    served = await jeton.http.post(PATH, json=chat("small-model"), headers={"x-jeton-criticality": "critical"})
    for replica in replicas:
        del jeton.app._fleet._in_flight._loads[replica]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert served.status_code == 200


@pytest.mark.parametrize(
    ("tenant", "why"),
    [
        ({"pools": ["edge"]}, "the pool cloud is not open to this tenant"),
        ({"residency": ["eu"]}, "data would be in us, and may only be in eu"),
        ({"isolation": "dedicated"}, "shared with other tenants, and this one is isolated"),
    ],
)
async def test_a_tenant_goes_only_where_its_rules_let_it(tmp_path: Path, tenant: dict[str, Any], why: str) -> None:
    def change(config: dict[str, Any]) -> None:
        config["tenants"][0] |= tenant
        edge, central, cloud = config["pools"]
        edge["residency"], central["region"], cloud["residency"] = "eu", "us", "us"
        if "isolation" in tenant:
            edge["backends"][0]["dedicated_to"] = ["tests"]

    async with running(tmp_path, change) as jeton:
        told = (await jeton.http.post("/jeton/explain", json=chat())).json()
        assert {one["backend"] for one in told["ranking"]} == {"small"}
        assert {one["why"] for one in told["exclusions"] if one["backend"] == "cloud"} == {why}
        refused = await jeton.http.post(PATH, json=chat("cloud-model"))
        assert refused.status_code == 403
        assert why in refused.json()["error"]["message"]


async def test_b61_a_conversation_stays_where_its_prefix_is_and_tenants_share_none(jeton: WholeApp) -> None:
    """Two equal replicas, and a preamble worth caching: the second turn finds the first one's replica cheaper."""
    turns: list[dict[str, str]] = [{"role": "user", "content": "Tell me about rainbows. " * 150}]
    places = []
    for _ in range(4):
        answer = await jeton.http.post(PATH, json={"model": "chat-small", "messages": turns, "max_tokens": 8})
        (attempt, *_) = reversed(await jeton.charges())
        places.append(attempt["replica"])
        turns += [answer.json()["choices"][0]["message"], {"role": "user", "content": "And then?"}]
    assert len(set(places)) == 1
    told = (await jeton.http.post("/jeton/explain", json={"model": "chat-small", "messages": turns})).json()
    cached = {one["replica"]: one["cached_tokens"] for one in told["ranking"]}
    assert cached.pop(places[0]) > 800
    assert set(cached.values()) == {0}
    other = (
        await jeton.http.post("/jeton/explain", json={"model": "chat-small", "messages": turns, "cache_salt": "x"})
    ).json()
    assert {one["cached_tokens"] for one in other["ranking"]} == {0}


async def test_another_policy_decides_for_a_name(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["policies"] = [{"name": "always_large", "models": ["anything"]}]

    async with running(tmp_path, change) as jeton:
        for model, policy in (("anything", "always_large"), ("auto", "quality_floor")):
            told = (await jeton.http.post("/jeton/explain", json=chat(model))).json()
            assert told["policy"] == policy


async def test_a_replica_that_went_down_is_not_thought_to_have_its_cache_still(jeton: WholeApp) -> None:
    index = jeton.app.lessons.prefixes
    mark = (PrefixMark(7, 900), PrefixMark(8, 1200))
    for replica in ("small/1", "small/2"):
        index.sent(replica, mark)
    assert set(index.cached_tokens(mark)) == {"small/1", "small/2"}
    jeton.replica("small").faults(refuse=True)
    await jeton.until(lambda: set(index.cached_tokens(mark)) == {"small/2"}, 30)


async def test_a_conversation_stays_where_its_prefix_is_whichever_worker_has_its_next_turn(tmp_path: Path) -> None:
    for name in ("redis", "a", "b"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "redis") as redis:

        def shared(config: dict[str, Any]) -> None:
            config["redis"] = {"url": redis.url, "timeout_seconds": 5}
            # On a machine that is too busy for health checks a replica would be taken for down, and its cache for gone.
            config["health"] = {"interval_seconds": 600, "timeout_seconds": 30}

        async with running(tmp_path / "a", shared) as one:

            def of_the_same_fleet(config: dict[str, Any]) -> None:
                shared(config)
                config["pools"] = one.config["pools"]

            async with running(tmp_path / "b", of_the_same_fleet) as other:
                turns: list[dict[str, str]] = [{"role": "user", "content": "Tell me about rainbows. " * 150}]
                places = []
                for worker in (one, other, one, other):
                    body = {"model": "chat-small", "messages": turns, "max_tokens": 8}

                    async def is_known(worker: WholeApp = worker, body: dict[str, Any] = body) -> bool:
                        told = (await worker.http.post("/jeton/explain", json=body)).json()
                        return any(choice["cached_tokens"] for choice in told["ranking"])

                    async with asyncio.timeout(60):
                        while places and not await is_known():
                            await asyncio.sleep(0.02)
                    answer = await worker.http.post(PATH, json=body)
                    (attempt, *_) = reversed(await worker.charges())
                    places.append(attempt["replica"])
                    turns += [answer.json()["choices"][0]["message"], {"role": "user", "content": "And then?"}]
                assert len(set(places)) == 1
                stranger = {"model": "chat-small", "messages": turns, "cache_salt": "x"}
                told = (await other.http.post("/jeton/explain", json=stranger)).json()
                assert {choice["cached_tokens"] for choice in told["ranking"]} == {0}
                text = (await other.http.get("/metrics")).text
                counted = {
                    line.partition(" ")[0]: float(line.rpartition(" ")[2])
                    for line in text.splitlines()
                    if line.startswith(("jeton_prefix_known_tokens_total", "jeton_prefix_news"))
                }
                assert counted['jeton_prefix_known_tokens_total{by="others"}'] > 800
                assert counted['jeton_prefix_news_total{fate="told"}'] >= 1
                assert counted['jeton_prefix_news_total{fate="heard"}'] >= 1
                assert counted["jeton_prefix_news_failures_total"] == 0


async def test_workers_that_are_told_not_to_keep_to_themselves_what_they_sent_where(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as redis:

        def apart(config: dict[str, Any]) -> None:
            config["redis"] = {"url": redis.url, "timeout_seconds": 5, "shares_prefixes": False}

        async with running(tmp_path, apart) as jeton:
            body = {
                "model": "chat-small",
                "messages": [{"role": "user", "content": "Tell me. " * 400}],
                "max_tokens": 8,
            }
            await jeton.http.post(PATH, json=body)
            await jeton.charges()
            index = jeton.app.lessons.prefixes
            assert not index.is_shared
            assert index.take_untold(10**9) == []
