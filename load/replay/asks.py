"""Recorded requests as the router reads them, without their words. Pure; a seed decides what was not recorded.

What the classifier said of a prompt's difficulty is not in the ledger, only its category is. It is drawn from what the classifier
says of the questions of that category that ship with jeton, anew for each seed: how much a result depends on it shows in how
far the seeds are apart.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from load.replay.recorded import Recorded
from load.simulate.asks import Ask
from load.traces import Arrival
from router.classify.classifier import Classifier
from router.domain.decision import Prediction
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt

NEEDS = frozenset({Capability.CHAT})
LOT_BYTES = 8


class RecordedAsks:
    """predictions: of the shipped questions, by category. Its requests are numbered as `requests` are."""

    common_tokens = 0

    def __init__(
        self, requests: Sequence[Recorded], predictions: Mapping[str, Sequence[Prediction]], *, seed: int
    ) -> None:
        self._requests = requests
        self._predictions = predictions
        self._all = [one for several in predictions.values() for one in several]
        self._seed = seed

    def ask(self, number: int, arrival: Arrival) -> Ask:
        one = self._requests[number]
        like = self._like(number, one.category)
        prediction = Prediction(
            like.small_suffices, float(one.completion_tokens_estimate), one.category, like.uncertainty
        )
        request = InferenceRequest(
            request_id=f"replay_{self._seed:x}_{number:x}",
            tenant=one.tenant,
            api_key_name="replayed",
            endpoint=Endpoint.CHAT,
            model=one.model,
            is_streaming=one.is_streaming,
            prompt=Prompt("", tokens_estimate=one.prompt_tokens_estimate),
            needs=NEEDS,
            wants_usage=True,
        )
        return Ask(request, prediction, one.prompt_tokens, False, one.cached_tokens)

    def _like(self, number: int, category: str) -> Prediction:
        among = self._predictions.get(category) or self._all
        lot = blake2b(b"%d/%d" % (self._seed, number), digest_size=LOT_BYTES).digest()
        return among[int.from_bytes(lot, "little") * len(among) >> 8 * LOT_BYTES]


def by_category(classifier: Classifier, questions: Sequence[str]) -> dict[str, list[Prediction]]:
    """What the classifier says of each question, by the category that it says."""
    found: dict[str, list[Prediction]] = {}
    for question in questions:
        prediction = classifier.predict(Prompt(question, tokens_estimate=len(question) // 4 + 1))
        found.setdefault(prediction.category, []).append(prediction)
    return found
