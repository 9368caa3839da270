"""How long answers really are, against what the classifier expects: learned by application and category of prompts.

A classifier reads a prompt; whether a sentence or an essay follows is mostly the application's business (code is completed in
thirty tokens, written in a thousand). What answers took in all, over what was expected of them in all, is the ratio by which
expectations are corrected: of sums, since money and time go by sums. An application begins at 1, each of its categories at the
application's ratio, which count as so many answers; what was seen counts less with every answer since, so that a changed
application is followed within some hundreds.

An expectation that the client's own bound cuts is compared as it was cut. Pure; for one thread. How many are remembered is
bounded: those that were silent longest are forgotten.
"""

from router.domain.decision import Prediction
from router.domain.request import InferenceRequest
from router.selection.ask import expected_completion_tokens

# As so many answers the prior counts: lengths of one application and category vary by a factor of about two, so that the mean
# of ten of them is known to a fifth or so.
PRIOR_ANSWERS = 10.0
# How many answers are remembered: each makes the earlier ones count so much less.
ANSWERS_MAX = 500.0
KEPT = 1 - 1 / ANSWERS_MAX
# Corrections beyond are believed to be something else than a length that is usual.
RATIO_MAX = 32.0
RATIO_MIN = 1 / RATIO_MAX
# Applications and categories of them that are remembered.
REMEMBERED_MAX = 8192

Key = tuple[str, str, str]


class Length:
    """What was seen of an application, or of one category of it. ratio: real over expected, as it is believed. answers: what it
    rests on, faded, without the prior."""

    __slots__ = ("_expected_tokens", "_real_tokens", "answers", "ratio")

    def __init__(self) -> None:
        self._expected_tokens = self._real_tokens = self.answers = 0.0
        self.ratio = 1.0

    def observe(self, expected_tokens: float, real_tokens: float, prior_ratio: float) -> None:
        """expected_tokens: more than 0."""
        self._expected_tokens = self._expected_tokens * KEPT + expected_tokens
        self._real_tokens = self._real_tokens * KEPT + real_tokens
        self.answers = answers = self.answers * KEPT + 1
        seen_ratio = self._real_tokens / self._expected_tokens
        ratio = (seen_ratio * answers + prior_ratio * PRIOR_ANSWERS) / (answers + PRIOR_ANSWERS)
        self.ratio = min(max(ratio, RATIO_MIN), RATIO_MAX)


class Lengths:
    """Of all applications: a tenant's API key is one."""

    def __init__(self, remembered_max: int = REMEMBERED_MAX) -> None:
        self._remembered_max = remembered_max
        # By tenant, API key and category, "" for all of an application's; those first that were silent longest.
        self._lengths: dict[Key, Length] = {}

    def of(self, request: InferenceRequest, prediction: Prediction | None) -> Length | None:
        """What expectations of such a request are corrected by; None where nothing was seen of its application."""
        lengths, tenant, key = self._lengths, request.tenant, request.api_key_name
        found = None if prediction is None else lengths.get((tenant, key, prediction.category))
        return lengths.get((tenant, key, "")) if found is None else found

    def observe(self, request: InferenceRequest, prediction: Prediction | None, completion_tokens: int) -> None:
        """An answer has ended as answers do; completion_tokens: all that was generated for it."""
        expected_tokens = expected_completion_tokens(request, prediction)
        if expected_tokens <= 0 or completion_tokens <= 0:
            return
        tenant, key = request.tenant, request.api_key_name
        application = self._remembered((tenant, key, ""))
        application.observe(expected_tokens, completion_tokens, 1.0)
        if prediction is not None:
            one = self._remembered((tenant, key, prediction.category))
            one.observe(expected_tokens, completion_tokens, application.ratio)

    def _remembered(self, key: Key) -> Length:
        """It moves to the end, and the first goes where there are too many."""
        lengths = self._lengths
        length = lengths.pop(key, None)
        if length is None:
            length = Length()
            if len(lengths) >= self._remembered_max:
                del lengths[next(iter(lengths))]
        lengths[key] = length
        return length
