"""How near the estimates that workers answer with come to what is booked: `python -m load.bench.estimates` (about a minute).

Requests on one simulated engine are spread over four workers, each of which sees its own and how many the others have. Told is
how far the cost that it answers with is from what the accountant, who sees all of them, books: median and 95th percentile, by
the estimate of a worker that only reports (`router/pricing/estimate.py`) and by a fold of a worker's own attempts with its
part of the price (`Leases.share`); and what the estimate is off by where there is but one worker.
"""

from collections.abc import Callable, Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from load.attribution.mixes import MIXES
from load.attribution.rules import NANOUSD_PER_HOUR, NS, metered
from load.attribution.run import Outcome, Seen, run
from load.profiles import profile_named
from router.pricing.estimate import ReplicaEstimate, Share
from router.pricing.meter import ReplicaMeter
from router.pricing.profile import EngineProfile
from router.pricing.weigher import Weigher

PROFILE = "h100-llama-3.1-8b-fp8"
WORKERS = 4
CLIENTS = (4, 32, 128)
REQUESTS, REQUESTS_PER_CLIENT = 300, 10

Costs = Sequence[float]


class Estimating:
    """One worker that only reports."""

    def __init__(self, profile: EngineProfile, expected: int) -> None:
        self._profile = profile
        self._expected = expected
        self._replica = ReplicaEstimate(NANOUSD_PER_HOUR, 0)
        self._shares: dict[str, Share] = {}

    def opened(self, name: str, prompt: int, context: int, at_ns: int) -> None:
        self._shares[name] = self._replica.open(
            self._profile, context, context - prompt, self._expected, at_ns, is_streaming=True
        )

    def first_token(self, name: str, at_ns: int) -> None:
        self._replica.first_token(self._shares[name], at_ns)

    def closed(self, name: str, at_ns: int) -> int:
        return self._replica.close(self._shares[name], at_ns)

    def hear(self, own: int, others: int, at_ns: int) -> None:
        self._replica.share_with(others, at_ns)


class Folding:
    """One worker with meter and weigher."""

    def __init__(self, profile: EngineProfile, expected: int) -> None:
        self._profile = profile
        self._expected = expected
        self._meter = ReplicaMeter(NANOUSD_PER_HOUR, 0)
        self._weigher = Weigher()

    def opened(self, name: str, prompt: int, context: int, at_ns: int) -> None:
        weight = self._weigher.open(name, self._profile, at_ns, prompt, self._expected, context_tokens=context)
        self._meter.open(name, weight, at_ns)

    def first_token(self, name: str, at_ns: int) -> None:
        self._meter.advance(at_ns)
        weighed = self._weigher.first_token(name, at_ns, self._meter.occupied_seconds(name))
        if weighed is not None:
            self._meter.reweigh(name, weighed.weight, at_ns, weighed.growth, weighed.shared, weighed.settled)

    def closed(self, name: str, at_ns: int) -> int:
        self._weigher.close(name, at_ns)
        return self._meter.close(name, at_ns) or 0

    def hear(self, own: int, others: int, at_ns: int) -> None:
        self._meter.reprice(NANOUSD_PER_HOUR * own // (own + others) if own else NANOUSD_PER_HOUR, at_ns)


Kind = Callable[[EngineProfile, int], Estimating | Folding]


def told(kind: Kind, workers: int, profile: EngineProfile, outcome: Outcome, expected: float) -> Costs:
    """What each request is said to have cost, in seconds of the replica."""
    made = [kind(profile, round(expected)) for _ in range(workers)]
    open_here = [0] * workers
    costs = [0.0] * len(outcome.requests)
    for at_seconds, seen, position in outcome.events:
        worker, at_ns, name = position % workers, round(at_seconds * NS), str(position)
        one = made[worker]
        if seen is Seen.OPENED:
            request = outcome.requests[position]
            context = request.work.prompt_tokens
            one.opened(name, context - request.sequence.cached_tokens, context, at_ns)
            open_here[worker] += 1
        elif seen is Seen.FIRST_TOKEN:
            one.first_token(name, at_ns)
        else:
            costs[position] = one.closed(name, at_ns) / NS
            open_here[worker] -= 1
        whole = sum(open_here)
        for own, each in zip(open_here, made, strict=True):
            each.hear(own, whole - own, at_ns)
    return costs


def off(costs: Costs, booked: Costs, counted: range) -> str:
    found = sorted(abs(costs[position] / booked[position] - 1) for position in counted if booked[position] > 0)
    return f"{median(found):.0%} / {found[int(0.95 * len(found))]:.0%}"


def main() -> None:
    table = Table("mix", "clients", f"{WORKERS} workers: estimate", f"{WORKERS} workers: fold", "1 worker: estimate")
    profile = profile_named(PROFILE)
    for mix in MIXES:
        expected = mix.completion_tokens_mean()
        for clients in CLIENTS:
            wanted = REQUESTS + REQUESTS_PER_CLIENT * clients
            outcome = run(profile, mix, clients, wanted, seed=1)
            booked, counted = metered(profile, outcome, expected), range(clients, wanted)
            columns = [
                off(told(kind, workers, profile, outcome, expected), booked, counted)
                for kind, workers in ((Estimating, WORKERS), (Folding, WORKERS), (Estimating, 1))
            ]
            table.add_row(mix.name, str(clients), *columns)
    Console().print(table)


if __name__ == "__main__":
    main()
