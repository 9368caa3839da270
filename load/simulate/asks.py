"""Requests as the router reads them, without their bodies: what a policy decides by. Pure; a seed decides everything.

The words of a prompt come from `data/prompts.csv.gz` as in `load/workload.py`, and what the classifier says of them is
remembered: the same question behind about as much context gets the same prediction.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from math import log
from random import Random
from zlib import crc32

from load.traces import Arrival
from router.classify.classifier import Classifier
from router.domain.decision import Prediction
from router.domain.request import Capability, Endpoint, InferenceRequest, PrefixMark, Prompt
from router.wire.parse import SYSTEM_TEXT_CHARACTERS

# Predictions are kept by question and by prompts' lengths in steps of 4 %.
LENGTH_STEP = 1.04
# English prose has about so many characters a token in the emulated model's vocabulary.
CHARACTERS_PER_TOKEN = 5
CONTEXT_TOKENS_MIN = 16
# Marks along a prompt that the router's prefix index is asked for.
MARKS_MAX = 16
NEEDS = frozenset({Capability.CHAT})


class Asks:
    """Makes requests. models, tenants: weights by name."""

    def __init__(
        self,
        classifier: Classifier,
        questions: Sequence[str],
        *,
        models: Mapping[str, float],
        tenants: Mapping[str, float],
        streaming_ratio: float,
        block_tokens: int,
        seed: int,
    ) -> None:
        self._classifier = classifier
        self._questions = questions
        self._question_tokens = [len(question) // 4 + 1 for question in questions]
        self._models, self._model_weights = list(models), list(models.values())
        self._tenants, self._tenant_weights = list(tenants), list(tenants.values())
        self._known_tenants = frozenset(tenants)
        self._streaming_ratio = streaming_ratio
        self._block_tokens = block_tokens
        self._random = Random(seed)
        self._predictions: dict[tuple[int, int], tuple[Prompt, Prediction]] = {}
        self._made = 0

    def ask(self, arrival: Arrival) -> tuple[InferenceRequest, Prediction]:
        """The next request, and what the classifier says of it."""
        random = self._random
        number = random.randrange(len(self._questions))
        prompt, prediction = self._predicted(number, arrival.prompt_tokens)
        streams = random.random() < self._streaming_ratio
        models, tenants = self._models, self._tenants
        model = models[0] if len(models) == 1 else random.choices(models, self._model_weights)[0]
        tenant = arrival.tenant
        if tenant not in self._known_tenants:
            tenant = tenants[0] if len(tenants) == 1 else random.choices(tenants, self._tenant_weights)[0]
        self._made += 1
        request = InferenceRequest(
            request_id=f"sim_{self._made:x}",
            tenant=tenant,
            api_key_name="simulated",
            endpoint=Endpoint.CHAT,
            model=model,
            is_streaming=streams if arrival.streams is None else arrival.streams,
            prompt=prompt,
            needs=NEEDS,
            completion_tokens_max=None,
            choices=1,
            prompts=1,
            wants_usage=True,
            wants_continuous_usage=False,
            body_bytes=CHARACTERS_PER_TOKEN * arrival.prompt_tokens,
            prefix=self._marks(tenant, arrival),
        )
        return request, prediction

    def _predicted(self, number: int, prompt_tokens: int) -> tuple[Prompt, Prediction]:
        step = _length_step(prompt_tokens)
        found = self._predictions.get((number, step))
        if found is None:
            context_tokens = prompt_tokens - self._question_tokens[number]
            has_context = context_tokens >= CONTEXT_TOKENS_MIN
            prompt = Prompt(
                text=self._questions[number],
                system_text="x" * min(SYSTEM_TEXT_CHARACTERS, CHARACTERS_PER_TOKEN * context_tokens)
                if has_context
                else "",
                turns=2 if has_context else 1,
                tokens_estimate=round(LENGTH_STEP**step) if has_context else self._question_tokens[number],
            )
            found = self._predictions[number, step] = prompt, self._classifier.predict(prompt)
        return found

    def _marks(self, tenant: str, arrival: Arrival) -> tuple[PrefixMark, ...]:
        """Marks at the ends of blocks, evenly along the prompt; the same prefix of the same tenant has the same."""
        if not arrival.blocks:
            return ()
        ids = list(arrival.block_ids())
        every = -(-len(ids) // MARKS_MAX)
        salt = crc32(tenant.encode())  # `hash` of a text differs from process to process, that of numbers does not
        return tuple(
            PrefixMark(hash((salt, ids[end - 1])), min(end * self._block_tokens, arrival.prompt_tokens))
            for end in range(every, len(ids) + 1, every)
        )


@cache
def _length_step(tokens: int) -> int:
    """The exponent of LENGTH_STEP next to a length."""
    return round(log(max(1, tokens)) / log(LENGTH_STEP))
