"""A workload: a trace's times, lengths and shared prefixes, filled with text that a router can judge. Pure: a seed decides.

A prompt is a question from `data/prompts.csv.gz` after as much context as makes it as long as the recorded one. What prompts
share in the trace their contexts share to the byte, so that a prefix cache hits where it did. How long the answer is, the model
decides, unless it is told. What must not live here: sending.
"""

import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count, islice
from random import Random
from typing import Any

from load.draws import Draws, Mix
from load.emulator import language
from load.traces import DATA, Arrival, Trace

PROMPTS = DATA / "prompts.csv.gz"

# Contexts of requests that share nothing are stretches of one long text, from a place of their own each.
LIBRARY_TOKENS = 32_768
# Below this a context would be a scrap of a sentence.
CONTEXT_TOKENS_MIN = 16
INSTRUCTION = "Answer the user's question. Use these notes where they help:\n\n"
# A session's text without recorded blocks is made in pieces of this size.
SESSION_BLOCK_TOKENS = 64
[LINE] = language.encode("\n")
# Texts of blocks that are kept: at 64 tokens a block some 25 MB.
BLOCKS_KEPT = 65_536


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


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests for a trace. The same request comes for the same seed and number, whoever asks and in whatever order.

    keeps_lengths: ask for completions exactly as long as recorded (`max_tokens` with vLLM's `ignore_eos`).
    """

    trace: Trace
    questions: Sequence[str]
    mix: Mix
    seed: int
    keeps_lengths: bool = False
    _library: Sequence[int] = field(init=False, repr=False, compare=False)
    _draws: Draws = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_draws", Draws(self.mix, len(self.questions), self.seed))
        object.__setattr__(self, "_library", library(self.seed))

    def request(self, number: int, arrival: Arrival) -> tuple[str, dict[str, Any]]:
        """The tenant and the body of the request with this number."""
        draw, random = self._draws.draw(number, arrival), Random(f"{self.seed}/{number}")
        body: dict[str, Any] = {
            "model": draw.model,
            "messages": self._messages(self.questions[draw.question], arrival, random),
        }
        if draw.is_streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self.keeps_lengths:
            body |= {"max_tokens": arrival.completion_tokens, "ignore_eos": True}
        return draw.tenant, body

    def _messages(self, question: str, arrival: Arrival, random: Random) -> list[dict[str, str]]:
        """A question, behind so much context that the prompt has about the recorded length in the emulated model's tokens."""
        user = {"role": "user", "content": question}
        wanted = arrival.prompt_tokens - len(language.chat_prompt([("system", INSTRUCTION), ("user", question)]))
        if wanted < CONTEXT_TOKENS_MIN:
            return [user]
        return [{"role": "system", "content": INSTRUCTION + self._context(arrival, wanted, random)}, user]

    def _context(self, arrival: Arrival, tokens: int, random: Random) -> str:
        if arrival.blocks:
            return self._stretch(arrival.block_ids(), self.trace.block_tokens, tokens)
        if arrival.session:
            return self._stretch((f"{arrival.session}/{at}" for at in count()), SESSION_BLOCK_TOKENS, tokens)
        library = self._library
        tokens = min(tokens, len(library))
        start = random.randrange(len(library) - tokens + 1)
        return language.decode(library[start : start + tokens]).strip()

    def _stretch(self, names: Iterator[object], block_tokens: int, tokens: int) -> str:
        """The first tokens of these blocks' texts; the last block may be cut. Fewer where the blocks are."""
        whole, rest = divmod(tokens, block_tokens)
        texts = [_block(self.seed, name, block_tokens, block_tokens) for name in islice(names, whole)]
        if rest and len(texts) == whole and (name := next(names, None)) is not None:
            texts.append(_block(self.seed, name, block_tokens, rest))
        return "".join(texts)


@lru_cache(maxsize=16)
def library(seed: int) -> Sequence[int]:
    """The long text, as tokens."""
    return language.prose(Random(seed), LIBRARY_TOKENS)


def timed_requests(workload: Workload) -> Iterator[TimedRequest]:
    """Requests at the trace's times, without end: after its last arrival the trace begins again, with other questions."""
    for number, at_seconds, arrival in timed_arrivals(workload.trace):
        tenant, body = workload.request(number, arrival)
        yield TimedRequest(at_seconds, tenant, body)


def timed_arrivals(trace: Trace) -> Iterator[tuple[int, float, Arrival]]:
    """What `timed_requests` are made of: their numbers, and when they are due."""
    arrivals = trace.arrivals
    began = arrivals[0].seconds
    lap_seconds = trace.seconds
    lap_seconds += lap_seconds / max(1, len(arrivals) - 1)  # a gap of mean length before the next lap
    numbers = count()
    for lap in count():
        for number, arrival in zip(numbers, arrivals, strict=False):
            yield number, arrival.seconds - began + lap * lap_seconds, arrival


@lru_cache(maxsize=BLOCKS_KEPT)
def _block(seed: int, name: object, block_tokens: int, tokens: int) -> str:
    """The first tokens of a block's text, which its name decides. It begins a line, so that no word runs across two blocks."""
    return language.decode([LINE, *language.prose(Random(f"{seed}/block {name}"), block_tokens - 1)][:tokens])
