"""What of a request bears on every candidate alike, worked out once per request."""

from collections.abc import Mapping

from router.domain.decision import Candidate, Prediction
from router.domain.request import AUDIO, AUDIO_TOKENS_PER_SECOND, Endpoint, InferenceRequest, heard_seconds
from router.pricing.yields import answer_kind
from router.selection.extent import GENERATING, extent
from router.selection.quality import tier_qualities

# Tokens of an answer whose length nobody predicted: the mean of the 19,366 requests of Azure's conversation trace of 2023.
COMPLETION_TOKENS_UNKNOWN = 211.0
# A hundred and fifty words a minute, as English is read aloud, at four tokens for three words.
SPEECH_TOKENS_PER_SECOND = 150 / 60 * 4 / 3
# What a completion token is on the network: an event of vLLM's chat stream without usage, as recorded from a real server for
# this project; and English text at four characters a token, in a whole answer.
STREAMED_BYTES_PER_TOKEN = 205
WHOLE_BYTES_PER_TOKEN = 4
ANSWER_BYTES = 400
NOTHING_CACHED: Mapping[str, int] = {}


class Ask:
    """cached_tokens: of the prompt's, those that a replica's prefix cache is expected to hold, by its id.

    length_ratio: real over expected completions, as learned (`lengths.py`). region: of the tenant's clients, where the request
    names none. are_holds_wanted: give each candidate the most that it can
    cost.
    """

    __slots__ = (
        "_category",
        "are_holds_wanted",
        "audio_seconds",
        "cached_tokens",
        "completion_tokens",
        "egress_bytes",
        "prompt_tokens",
        "qualities",
        "region",
        "request",
    )

    def __init__(
        self,
        request: InferenceRequest,
        prediction: Prediction | None,
        tiers: int,
        cached_tokens: Mapping[str, int] = NOTHING_CACHED,
        *,
        length_ratio: float = 1.0,
        region: str = "",
        are_holds_wanted: bool = False,
    ) -> None:
        self.request = request
        self._category = "" if prediction is None else prediction.category
        self.cached_tokens = cached_tokens
        self.are_holds_wanted = are_holds_wanted
        # Tokenizing is not inference: the engine computes none of it.
        self.prompt_tokens = 0 if request.endpoint is Endpoint.TOKENIZE else request.prompt.tokens_estimate
        self.completion_tokens = expected_completion_tokens(request, prediction, length_ratio)
        self.audio_seconds = heard_seconds(request.endpoint, self.prompt_tokens)
        self.qualities = tier_qualities(prediction, tiers)
        bytes_per_token = STREAMED_BYTES_PER_TOKEN if request.is_streaming else WHOLE_BYTES_PER_TOKEN
        self.egress_bytes = ANSWER_BYTES + self.completion_tokens * bytes_per_token
        self.region = request.terms.region or region

    @property
    def kind(self) -> str:
        """Of the answer, for those that draft."""
        return answer_kind(self.request, self._category)


def expected_completion_tokens(
    request: InferenceRequest, prediction: Prediction | None, length_ratio: float = 1.0
) -> float:
    """Over all choices. A client's bound holds; where nothing is generated it is 0, where nothing is predicted a mean, and of
    speech what is said in that time. length_ratio: what the expectation of one choice is corrected by."""
    if request.endpoint in AUDIO:  # what was said is written down; of that no classifier knows
        tokens = request.prompt.tokens_estimate / AUDIO_TOKENS_PER_SECOND * SPEECH_TOKENS_PER_SECOND
    elif prediction is not None:
        tokens = prediction.completion_tokens
    elif request.endpoint in GENERATING:
        tokens = COMPLETION_TOKENS_UNKNOWN
    else:
        return 0.0
    tokens *= length_ratio
    if request.completion_tokens_max is not None:
        tokens = min(tokens, request.completion_tokens_max)
    return tokens * request.choices


def completion_tokens_due(request: InferenceRequest, candidate: Candidate, elapsed_seconds: float) -> int:
    """What of an answer that comes whole is likely to have been made so long after its dispatch, over all choices: nothing of
    it is seen before all is there, and what was made is paid for. At most what the request can have; 0 of a stream, where it
    would have been seen.
    """
    if request.is_streaming:
        return 0
    if candidate.tpot_seconds <= 0:  # nobody knows how fast it is
        return round(candidate.completion_tokens)
    due = request.choices * (elapsed_seconds - candidate.ttft_seconds) / candidate.tpot_seconds
    return round(min(max(due, 0.0), extent(request, candidate.backend).completion_tokens))
