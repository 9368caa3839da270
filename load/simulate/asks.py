"""Requests as the router reads them, without their bodies: what a policy decides by. Pure; a seed decides everything.

The request with a number is the one that `load/workload.py` makes of the same trace, mix and seed: the same question behind as
much context. What the classifier says is remembered: the same question behind about as much context gets the same prediction.
"""

from collections.abc import Sequence
from functools import cache
from math import log
from typing import NamedTuple
from zlib import crc32

from load.draws import Draws, Mix
from load.emulator import language
from load.traces import Arrival
from load.workload import CONTEXT_TOKENS_MIN, INSTRUCTION, library
from router.classify.classifier import Classifier
from router.domain.decision import Prediction
from router.domain.request import Capability, Endpoint, InferenceRequest, PrefixMark, Prompt
from router.wire.prompts import PROMPT_TEXT_CHARACTERS, SYSTEM_TEXT_CHARACTERS, tokens_estimate

# Predictions are kept by question and by prompts' lengths in steps of 10 %.
LENGTH_STEP = 1.1
# What a message has around its text, as the router reckons it.
MESSAGE_TOKENS = 4
# Marks along a prompt that the router's prefix index is asked for.
MARKS_MAX = 16
NEEDS = frozenset({Capability.CHAT})


class Ask(NamedTuple):
    """prompt_tokens: what the engine counts; the router has an estimate. has_context: the question is not all there is.
    known_cached_tokens: of a prompt that is replayed, what was cached, wherever it goes."""

    request: InferenceRequest
    prediction: Prediction
    prompt_tokens: int
    has_context: bool
    known_cached_tokens: int = 0


class _Question(NamedTuple):
    """alone_tokens: of a prompt that is the question and nothing else; with_tokens: with an instruction before it, which a
    context then follows. estimate: the router's, of its text."""

    text: str
    alone_tokens: int
    with_tokens: int
    estimate: int


class Asks:
    """Makes requests. keeps_lengths: they ask for completions as long as recorded, so that the router knows. common_tokens: what
    every prompt with a context begins with."""

    def __init__(
        self,
        classifier: Classifier,
        questions: Sequence[str],
        mix: Mix,
        *,
        block_tokens: int,
        seed: int,
        keeps_lengths: bool = False,
    ) -> None:
        self._classifier = classifier
        self._questions = questions
        self._draws = Draws(mix, len(questions), seed)
        self._block_tokens = block_tokens
        self._seed = seed
        self._keeps_lengths = keeps_lengths
        self.common_tokens = _common_tokens()
        self._context = INSTRUCTION + _context(seed)
        self._contexts: dict[int, str] = {}  # its beginnings, by their characters
        self._characters_per_token = len(_context(seed)) / len(library(seed))
        self._read: dict[int, _Question] = {}
        self._predictions: dict[tuple[int, int], Prediction] = {}

    def ask(self, number: int, arrival: Arrival) -> Ask:
        """The request with this number of the trace, and what the classifier says of it."""
        tenant, model, place, is_streaming = self._draws.draw(number, arrival)
        question = self._read.get(place) or self._question(place)
        context_tokens = arrival.prompt_tokens - question.with_tokens
        if context_tokens >= CONTEXT_TOKENS_MIN:
            characters = len(INSTRUCTION) + int(context_tokens * self._characters_per_token)
            prompt = Prompt(
                question.text,
                self._beginning(min(characters, SYSTEM_TEXT_CHARACTERS)),
                2,
                question.estimate + characters // 4 + 1 + 2 * MESSAGE_TOKENS,
            )
            prompt_tokens = arrival.prompt_tokens
        else:
            prompt = Prompt(question.text, "", 1, question.estimate + MESSAGE_TOKENS)
            prompt_tokens = question.alone_tokens
        step = _length_step(prompt.tokens_estimate)
        prediction = self._predictions.get((place, step))
        if prediction is None:
            prediction = self._predictions[place, step] = self._classifier.predict(prompt)
        request = InferenceRequest(
            request_id=f"sim_{self._seed:x}_{number:x}",
            tenant=tenant,
            api_key_name="simulated",
            endpoint=Endpoint.CHAT,
            model=model,
            is_streaming=is_streaming,
            prompt=prompt,
            needs=NEEDS,
            completion_tokens_max=arrival.completion_tokens if self._keeps_lengths else None,
            wants_usage=True,
            body_bytes=4 * prompt.tokens_estimate,
            prefix=self._marks(tenant, arrival, prompt.tokens_estimate / prompt_tokens) if arrival.blocks else (),
        )
        return Ask(request, prediction, prompt_tokens, prompt.turns > 1)

    def _beginning(self, characters: int) -> str:
        """Of the context: one text for all that need it."""
        text = self._contexts.get(characters)
        if text is None:
            text = self._contexts[characters] = self._context[:characters]
        return text

    def _question(self, place: int) -> _Question:
        text = self._questions[place]
        user = ("user", text)
        found = self._read[place] = _Question(
            text[:PROMPT_TEXT_CHARACTERS],
            len(language.chat_prompt([user])),
            len(language.chat_prompt([("system", INSTRUCTION), user])),
            tokens_estimate(text),
        )
        return found

    def _marks(self, tenant: str, arrival: Arrival, estimate_ratio: float) -> tuple[PrefixMark, ...]:
        """Marks at the ends of blocks, evenly along the prompt; the same prefix of the same tenant has the same.

        estimate_ratio: of what the router takes the prompt for to what it has. Marks are in the router's tokens, as those of a
        real prompt are: else what is not cached would be the difference of two measures.
        """
        ids = list(arrival.block_ids())
        every = -(-len(ids) // MARKS_MAX)
        salt = crc32(tenant.encode())  # `hash` of a text differs from process to process, that of numbers does not
        return tuple(
            PrefixMark(
                hash((salt, ids[end - 1])), int(min(end * self._block_tokens, arrival.prompt_tokens) * estimate_ratio)
            )
            for end in range(every, len(ids) + 1, every)
        )


@cache
def _common_tokens() -> int:
    """What prompts with an instruction have in common: they differ from the first word after it."""
    one, other = (language.chat_prompt([("system", INSTRUCTION + word)]) for word in ("A", "The"))
    return next(at for at, (first, second) in enumerate(zip(one, other, strict=False)) if first != second)


@cache
def _context(seed: int) -> str:
    return language.decode(library(seed))


@cache
def _length_step(tokens: int) -> int:
    """The exponent of LENGTH_STEP next to a length."""
    return round(log(max(1, tokens)) / log(LENGTH_STEP))
