"""Mixes of work to try attribution on: lengths, shared prefixes, clients that leave, and how many ask at once. Pure, seeded."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from load.traces import read_trace


@dataclass(frozen=True, slots=True)
class Work:
    """One request. prefix: whose first `prefix_tokens` of the prompt it shares, -1: nobody's."""

    prompt_tokens: int
    completion_tokens: int
    prefix: int = -1
    prefix_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Mix:
    """kinds: of `lengths`, each as likely. prefix_groups and prefix_tokens: so many shared beginnings, of that length.

    abort_ratio: the share of clients that leave, at a time that is uniform over a typical request, 0–1.
    """

    name: str
    kinds: tuple[str, ...]
    prefix_groups: int = 0
    prefix_tokens: int = 0
    abort_ratio: float = 0.0

    def draw(self, random: Random) -> Work:
        prompt_tokens, completion_tokens = lengths(random.choice(self.kinds), random)
        if not self.prefix_groups:
            return Work(prompt_tokens, completion_tokens)
        group = random.randrange(self.prefix_groups)
        return Work(self.prefix_tokens + prompt_tokens, completion_tokens, group, self.prefix_tokens)

    def completion_tokens_mean(self, kind_draws: int = 2000) -> float:
        """What a router that knows the mix, but not the request, expects of a completion."""
        random = Random(0)
        return sum(self.draw(random).completion_tokens for _ in range(kind_draws)) / kind_draws


_TRACE = [(arrival.prompt_tokens, arrival.completion_tokens) for arrival in read_trace().arrivals]
# Medians and spreads (σ of the logarithm) of prompts and completions.
_SHAPES: Mapping[str, tuple[float, float, float, float]] = {
    "short": (120, 0.6, 200, 0.6),
    "long": (6000, 0.4, 200, 0.6),
    "writing": (400, 0.5, 800, 0.5),
}


def lengths(kind: str, random: Random) -> tuple[int, int]:
    """Prompt and completion tokens: of Azure's conversation trace ("chat"), or log-normal."""
    if kind == "chat":
        prompt_tokens, completion_tokens = random.choice(_TRACE)
        return max(prompt_tokens, 1), max(completion_tokens, 1)
    prompt, prompt_sigma, completion, completion_sigma = _SHAPES[kind]
    drawn = prompt * random.lognormvariate(0, prompt_sigma), completion * random.lognormvariate(0, completion_sigma)
    return max(1, min(round(drawn[0]), 16_000)), max(1, min(round(drawn[1]), 4_000))


MIXES = (
    Mix("chat", ("chat",)),
    Mix("short", ("short",)),
    Mix("long", ("long",)),
    Mix("short and long", ("short", "long")),
    Mix("writing", ("writing",)),
    Mix("prefix hits", ("short",), prefix_groups=6, prefix_tokens=2048),
    Mix("aborts", ("chat",), abort_ratio=0.3),
)
CONCURRENCIES = (1, 4, 16, 32, 64, 128)
