"""How fast the engine runs in virtual time: `python -m load.bench.engine_speed`.

100 replicas, the lengths of Azure's conversation trace, Poisson arrivals at the fleet, given to the replicas in turn; one
process, one core, until the fleet has made 10 million steps. At several loads, because what costs time is a change of a batch
(a prompt read, an end), not a step: a run of steps in which nothing changes is added up (`load/engine`). `--profile` prints
where the time goes.
"""

import cProfile
import pstats
import time
from random import Random

import click
from rich.console import Console
from rich.table import Table

from load.engine import Engine, EngineSequence
from load.profiles import profile_named
from load.traces import read_trace
from router.pricing.profile import EngineProfile

REPLICAS = 100
BLOCK_TOKENS = 16  # vLLM's on GPUs
PROFILE = "h100-llama-3.1-8b-fp8"
# Requests a second and replica; with this profile and these lengths about 4, 16 and 40 run at once.
RATES = (4.0, 10.0, 18.0)


class Run:
    """One measurement. steps, sequences, seconds: what was done, and how much of one core's time it took."""

    def __init__(self, profile: EngineProfile, rate: float, *, has_shares: bool) -> None:
        self.rate = rate
        self.engines = [
            Engine(profile, block_tokens=BLOCK_TOKENS, has_prefix_cache=False, has_shares=has_shares)
            for _ in range(REPLICAS)
        ]
        self.running = 0.0
        self.sequences = 0
        self.seconds = 0.0
        self._random = Random(1)
        self._trace = read_trace().arrivals

    @property
    def steps(self) -> int:
        return sum(engine.counters.steps for engine in self.engines)

    def go(self, steps: int) -> None:
        """Requests until so many steps have been made."""
        random, trace, engines = self._random, self._trace, self.engines
        began = time.process_time()
        now_seconds = 0.0
        looked = 0
        while True:
            for engine in engines:
                now_seconds += random.expovariate(self.rate * REPLICAS)
                arrival = trace[int(random.random() * len(trace))]
                engine.advance(now_seconds)
                engine.submit(EngineSequence(arrival.prompt_tokens, arrival.completion_tokens), now_seconds)
            looked += 1
            self.running += sum(engine.running for engine in engines) / REPLICAS
            if looked % 16 == 0 and self.steps >= steps:
                break
        self.seconds = time.process_time() - began
        self.sequences = looked * REPLICAS
        self.running /= looked


@click.command()
@click.option("--steps", default=10_000_000, show_default=True)
@click.option(
    "--rate", "rates", multiple=True, type=float, default=RATES, show_default=True, help="Requests/s a replica."
)
@click.option("--shares", "has_shares", is_flag=True, help="Keep the truth about attribution, too.")
@click.option("--profile", "is_profiling", is_flag=True, help="Where the time goes, in a tenth of the steps.")
def main(steps: int, rates: tuple[float, ...], has_shares: bool, is_profiling: bool) -> None:
    """Print a table of steps, sequences and CPU seconds; requests/s and running are a replica's."""
    profile = profile_named(PROFILE)
    if is_profiling:
        run = Run(profile, rates[-1], has_shares=has_shares)
        profiler = cProfile.Profile()
        profiler.runcall(run.go, steps // 10)
        pstats.Stats(profiler).strip_dirs().sort_stats("tottime").print_stats(18)
        return
    table = Table(
        *("requests/s", "running", "steps", "sequences", "seconds", "µs a step", "µs a sequence"),
        title=f"{REPLICAS} replicas, {PROFILE}, one core{', with shares' if has_shares else ''}",
    )
    for rate in rates:
        run = Run(profile, rate, has_shares=has_shares)
        run.go(steps)
        done, seconds = run.steps, run.seconds
        table.add_row(
            *(f"{rate:g}", f"{run.running:.1f}", f"{done:,}", f"{run.sequences:,}", f"{seconds:.1f}"),
            *(f"{seconds / done * 1e6:.2f}", f"{seconds / run.sequences * 1e6:.1f}"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
