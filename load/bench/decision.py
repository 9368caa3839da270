"""What a decision over many candidates costs: `python -m load.bench.decision`.

Find candidates and rank them, as a busy router does: five backends of ten replicas each, each with work of its own, of which
three changes are new to every decision (a request starts, gets its first token, ends).
"""

import time
import timeit
from itertools import count

from rich.console import Console

from router.config.routing import PolicyConfig
from router.domain.decision import Prediction
from router.domain.fleet import UP, Backend, Billing, EngineKind, Load, Pool, PoolKind, Replica, Scrape, Snapshot
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt
from router.pricing.price import LeasedPrice, Purchase
from router.profiles import shipped
from router.selection.candidates import Finder
from router.selection.loader import load_policy
from router.selection.scope import Scope

BACKENDS = 5
REPLICAS = 10
PROFILE = "llama-3.1-70b-fp8-h200"
CALLS = 1000
RUNS = 7


def main() -> None:
    candidates = BACKENDS * REPLICAS
    print_ = Console().print
    print_(f"a decision over {candidates} candidates, three of them with new work: {_microseconds():.1f} µs of CPU")


def _microseconds() -> float:
    needs = frozenset({Capability.CHAT})
    pool = Pool("central", PoolKind.CENTRAL, Billing.LEASED, rtt_seconds=0.01)
    profile = PROFILE
    backends = []
    for number in range(BACKENDS):
        name = f"central-{number}"
        tier = "large" if number % 2 else "small"
        replicas = tuple(Replica(f"{name}/{n}", name, f"http://{name}-{n}:8000") for n in range(REPLICAS))
        backends.append(
            Backend(name, pool, "m", "m", tier, "fp8", EngineKind.VLLM, 65_536, needs, "gpu", profile, replicas)
        )
    replica_ids = [replica.id for backend in backends for replica in backend.replicas]
    finder = Finder(
        tiers=("small", "large"),
        prices={
            backend.name: LeasedPrice("gpu@2026-01-01#0", 3_780_000_000, Purchase.ON_DEMAND) for backend in backends
        },
        profiles={profile: shipped().named(profile)},
        stale_seconds=10.0,
    )
    loads = {replica_id: _load(n) for n, replica_id in enumerate(replica_ids)}
    scrapes = {replica_id: Scrape(1.0, n % 7, 0, 0.1, ours=IDLE_THEN) for n, replica_id in enumerate(replica_ids)}
    snapshot = Snapshot(
        {backend.name: backend for backend in backends},
        dict.fromkeys(replica_ids, UP),
        scrapes,
        ("small", "large"),
    )
    request = InferenceRequest("r", "t", "k", Endpoint.CHAT, "auto", True, Prompt("hello", tokens_estimate=1155), needs)
    scope, prediction, policy = (
        Scope("auto", tuple(backends)),
        Prediction(0.9, 211.0, "chat", 0.1),
        load_policy(PolicyConfig().name, {}),
    )
    numbers = count()

    def decide() -> None:
        number = next(numbers)
        for step in range(3):
            loads[replica_ids[(number * 7 + step * 17) % len(replica_ids)]] = _load(number + step)
        candidates, _ = finder.find(request, scope, snapshot, loads, prediction, 2.0)
        policy.rank(request, candidates)

    decide()
    return min(timeit.repeat(decide, timer=time.process_time, number=CALLS, repeat=RUNS)) / CALLS * 1e6


def _load(number: int) -> Load:
    decoding = number % 23
    return Load(decoding + number % 3, 1155 * (number % 3), decoding, decoding * 1260 + number % 1009)


IDLE_THEN = Load(3, 0, 3, 3000)

if __name__ == "__main__":
    main()
