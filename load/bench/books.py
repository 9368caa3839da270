"""What keeping the books costs a request, writer and disk included: `python -m load.bench.books`.

Attempts are opened, get a first token and are closed at a steady pace, as a busy worker would; told is the CPU time of the calls
and of the writer thread, apart, and how far the ledger's file grows.
"""

import tempfile
import time
from pathlib import Path

from rich.console import Console

from router.accountant import Accountant
from router.clock import Clock
from router.domain.attempt import AttemptEnd, AttemptFacts, AttemptStatus
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind, Replica
from router.domain.usage import Usage
from router.ledger.sqlite import SqliteLedger
from router.pricing.price import LeasedPrice, Purchase
from router.pricing.profile import EngineProfile

ATTEMPTS = 10_000
PER_SECOND = 1000
RUNS = 3

BACKEND = Backend(
    "central-large", Pool("central", PoolKind.CENTRAL, Billing.LEASED), "meta-llama/Llama-3.1-8B-Instruct", "served",
    "large", "fp8", EngineKind.VLLM, 32_768, frozenset(), "", "",
    (Replica("central-large/0", "central-large", "http://127.0.0.1:1"),),
)  # fmt: skip
PRICE = LeasedPrice("central-h100@2026-05-07#00000000", 3_780_000_000, Purchase.ON_DEMAND)
PROFILE = EngineProfile(
    step_overhead_seconds=2e-3,
    weight_read_seconds=6e-3,
    kv_read_seconds_per_token=4e-8,
    compute_seconds_per_token=3e-5,
    kv_capacity_tokens=400_000,
)
END = AttemptEnd(AttemptStatus.OK, Usage(412, 173, cached_tokens=96), http_status=200)


def main() -> None:
    calls, writer, size = min(_keep(ATTEMPTS) for _ in range(RUNS))
    Console().print(
        f"{calls:.1f} µs of CPU in the calls, {writer:.1f} in the writer, {size:.0f} bytes a request at {PER_SECOND} a second"
    )


def _keep(attempts: int) -> tuple[float, float, float]:
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ledger.sqlite"
        store = SqliteLedger(path)
        accountant = Accountant(store)
        accountant.set_fleet([BACKEND], {BACKEND.name: PRICE}, {BACKEND.name: PROFILE}, clock.now_ns())
        made = [facts(number) for number in range(attempts)]
        began_seconds, began_all, began_here = time.monotonic(), time.process_time(), time.thread_time()
        paced = 0.0
        in_flight: list[str] = []
        for number, one in enumerate(made):
            accountant.open(one, BACKEND, PRICE, 412, 173, clock.now_ns())
            accountant.first_token(one.attempt_id, clock.now_ns())
            in_flight.append(one.attempt_id)
            if len(in_flight) > 50:
                accountant.close(in_flight.pop(0), END, clock.now_ns())
            if number % 10 == 9:
                if number % PER_SECOND == PER_SECOND - 1:
                    accountant.advance(clock.now_ns())
                pause_seconds = began_seconds + (number + 1) / PER_SECOND - time.monotonic()
                before = time.thread_time()
                time.sleep(max(pause_seconds, 0))
                paced += time.thread_time() - before
        for attempt_id in in_flight:
            accountant.close(attempt_id, END, clock.now_ns())
        here = time.thread_time() - began_here
        store.close()
        writer = time.process_time() - began_all - here
        return (here - paced) / attempts * 1e6, writer / attempts * 1e6, path.stat().st_size / attempts


def facts(number: int, backend: Backend = BACKEND) -> AttemptFacts:
    request_id = f"req_{number * 0x9E3779B97F4A7C15 % 2**128:032x}"
    replica = backend.replicas[0].id
    return AttemptFacts(
        f"{request_id}.1", request_id, 1, "acme", "acme-production", "chat", "auto", backend.pool.name, backend.name, replica,
        backend.model, "large", "policy", "cheapest above the floor", backend.name, "question", 412, 173,
    )  # fmt: skip


if __name__ == "__main__":
    main()
