"""Two days of an edge pool, a committed central one and a cloud, booked by the real accountant: for the tests of reports."""

import asyncio
import heapq
import random
from datetime import date
from pathlib import Path

from bookkeeping import CLOUD, FLEET, HOUR, LARGE, PROFILE, SECOND, SMALL, answered, backend, facts

from router.accounting.accountant import Accountant
from router.domain.attempt import AttemptEnd, AttemptStatus
from router.domain.fleet import Billing, Pool, PoolKind
from router.domain.usage import Usage
from router.ledger.sqlite import SqliteLedger
from router.pricing.book import PriceBook
from router.selection.holdout import Holdout

__all__ = ["CLOUD", "FLEET"]

START = 1_795_132_800 * SECOND  # 2026-11-20 00:00:00 UTC
HOURS = 48
REQUESTS = 1200
BIG = backend("central-big", Pool("central", PoolKind.CENTRAL, Billing.LEASED), tier="large")

PRICES_YAML = """
prices:
  edge-l4:
    - {kind: owned, from: 2026-01-01, gpu: L4, capital_usd: 2345, life_years: 5, power_kw: 0.072, idle_power_kw: 0.03,
       energy_usd_per_kwh: 0.146, pue: 1.54, source: a test}
  h100-reserved:
    - {kind: lease, from: 2026-01-01, purchase: reserved, usd_per_hour: 3.78, discount_ratio: 0.4, power_kw: 0.9, pue: 1.25,
       source: a test}
  cloud-large:
    - {kind: tokens, from: 2026-01-01, prompt_usd_per_million: 2, cached_usd_per_million: 0.5, completion_usd_per_million: 8,
       request_usd: 0.001, source: a test}
"""
ROUTER_YAML = """
baseline: cloud-large
holdout_ratio: 0.2
carbon_grams_per_kwh: {eu-central: 400}
pools:
  - {name: edge, kind: edge, billing: leased, region: eu-central, backends: [
      {name: edge-small, model: small, context_tokens: 1000, price: edge-l4, replicas: [{url: "http://a"}]}]}
  - {name: central, kind: central, billing: leased, backends: [
      {name: central-big, model: big, context_tokens: 1000, price: h100-reserved, replicas: [{url: "http://b"}]}]}
  - {name: cloud, kind: cloud, billing: metered, backends: [
      {name: cloud-large, model: large, context_tokens: 1000, price: cloud-large, replicas: [{url: "http://c"}]}]}
"""


def make(directory: Path) -> Path:
    """router.yaml, prices.yaml and the ledger, whose path it is."""
    import yaml

    (directory / "router.yaml").write_text(ROUTER_YAML)
    (directory / "prices.yaml").write_text(PRICES_YAML)
    book = PriceBook.model_validate(yaml.safe_load(PRICES_YAML))
    day = date(2026, 11, 20)
    prices = {
        SMALL.name: book.in_force("edge-l4", day),
        BIG.name: book.in_force("h100-reserved", day),
        LARGE.name: book.in_force("cloud-large", day),
    }
    path = directory / "ledger.sqlite"
    store = SqliteLedger(path, commit_seconds=0.0005)
    accountant = Accountant(store)
    accountant.set_fleet((SMALL, BIG, LARGE), prices, {SMALL.name: PROFILE, BIG.name: PROFILE}, START)
    chance, holdout = random.Random(7), Holdout(LARGE.name, 0.2)
    queue = [(START + chance.randrange(HOURS * 3600) * SECOND, number, "open") for number in range(REQUESTS)]
    queue += [(START + hour * HOUR, -hour, "advance") for hour in range(1, HOURS + 1)]
    heapq.heapify(queue)
    while queue:
        at_ns, number, what = heapq.heappop(queue)
        if what == "advance":
            accountant.advance(at_ns)
            asyncio.run(store.published(10.0))
            continue
        request_id = f"req_{number}"
        of = chance.choices((SMALL, BIG, LARGE), (6, 3, 1))[0]
        reason = "cheapest"
        if holdout.includes(request_id):
            of, reason = LARGE, "holdout"
        tenant = chance.choice(("acme", "zeta"))
        one = facts(request_id, of, replica=number % len(of.replicas), tenant=tenant, reason=reason)
        prompt, completion = chance.randint(10, 3000), chance.randint(1, 500)
        accountant.open(one, of, prices[of.name], prompt, completion, at_ns)
        if number % 3:
            accountant.first_token(one.attempt_id, at_ns + SECOND // 2)
        end = answered(prompt, completion, cached_tokens=prompt // 2)
        if number % 25 == 0:
            end = AttemptEnd(AttemptStatus.FAILED, Usage(prompt, completion), "reset")
        elif number % 25 == 1:
            end = AttemptEnd(AttemptStatus.CANCELLED, Usage(prompt, 1), "client_gone")
        elif number % 25 == 2:
            end = AttemptEnd(AttemptStatus.CANCELLED, Usage(prompt, 1), "deadline")
        accountant.close(one.attempt_id, end, at_ns + SECOND)
    unpriced = facts("req_unpriced", LARGE)
    accountant.open(unpriced, LARGE, None, 100, 50, START + HOURS * HOUR - 2)
    accountant.close(unpriced.attempt_id, answered(), START + HOURS * HOUR - 1)
    accountant.open(facts("req_open"), SMALL, prices[SMALL.name], 100, 50, START + HOURS * HOUR - 5 * SECOND)
    accountant.advance(START + HOURS * HOUR)
    asyncio.run(store.published(10.0))
    store.close()
    return path
