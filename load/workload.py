"""Timed requests: a trace's arrivals and lengths, filled with text that a router can judge. Pure: a seed decides everything.

A request is a question from `data/prompts.csv.gz` after as much context as makes it as long as the recorded one. How long the
answer is, the model decides. What must not live here: sending.
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

from load.emulator import language
from load.traces import DATA, Arrival

PROMPTS = DATA / "prompts.csv.gz"

# Contexts are stretches of one long text, from a place of their own each: nothing of them is in a prefix cache.
LIBRARY_TOKENS = 32_768
# Below this a context would be a scrap of a sentence.
CONTEXT_TOKENS_MIN = 16
INSTRUCTION = "Answer the user's question. Use these notes where they help:\n\n"


@dataclass(frozen=True, slots=True)
class Mix:
    """What is asked for and by whom, as weights; streaming_ratio: the share of requests that is streamed, 0–1."""

    models: Mapping[str, float]
    tenants: Mapping[str, float]
    streaming_ratio: float


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """at_seconds: when to send it, whatever became of the others. body: of `/v1/chat/completions`."""

    at_seconds: float
    tenant: str
    body: Mapping[str, Any]


def read_prompts() -> list[str]:
    """The questions that ship with jeton."""
    with gzip.open(PROMPTS, "rt", encoding="utf-8", newline="") as text:
        return [row["text"] for row in csv.DictReader(text)]


def timed_requests(
    trace: Sequence[Arrival], questions: Sequence[str], mix: Mix, *, seed: int
) -> Iterator[TimedRequest]:
    """Requests at the trace's times, without end: after its last arrival the trace begins again, with other questions."""
    random = Random(seed)
    library = language.prose(random, LIBRARY_TOKENS)
    models, model_weights = list(mix.models), list(mix.models.values())
    tenants, tenant_weights = list(mix.tenants), list(mix.tenants.values())
    lap_seconds = trace[-1].seconds - trace[0].seconds
    lap_seconds += lap_seconds / max(1, len(trace) - 1)  # a gap of mean length before the next lap
    for lap in count():
        for arrival in trace:
            question = random.choice(questions)
            body: dict[str, Any] = {
                "model": random.choices(models, model_weights)[0],
                "messages": _messages(question, arrival.prompt_tokens, library, random),
            }
            if random.random() < mix.streaming_ratio:
                body |= {"stream": True, "stream_options": {"include_usage": True}}
            yield TimedRequest(
                arrival.seconds - trace[0].seconds + lap * lap_seconds,
                random.choices(tenants, tenant_weights)[0],
                body,
            )


def _messages(question: str, prompt_tokens: int, library: Sequence[int], random: Random) -> list[dict[str, str]]:
    """A question, behind so much context that the prompt has about the given length in the emulated model's tokens."""
    user = {"role": "user", "content": question}
    wanted = prompt_tokens - len(language.chat_prompt([("system", INSTRUCTION), ("user", question)]))
    if wanted < CONTEXT_TOKENS_MIN:
        return [user]
    wanted = min(wanted, len(library))
    start = random.randrange(len(library) - wanted + 1)
    context = language.decode(library[start : start + wanted])
    return [{"role": "system", "content": INSTRUCTION + context.strip()}, user]
