"""Whether a choice's answer is put to its test: by the request alone, before anything is asked.

The test is the policy's, in its choice. An answer may be written off only where somebody else can be asked instead.
"""

from collections.abc import Sequence

from router.domain.budget import exact_dollars
from router.domain.decision import Choice
from router.domain.request import TESTABLE, InferenceRequest


def why_untested(request: InferenceRequest, choices: Sequence[Choice], place: int, spent_nanousd_max: int = 0) -> str:
    """For people, why the client gets the answer of the choice at `place` untested; "" where it is tested.

    spent_nanousd_max: what earlier attempts at the request have cost, at their worst. Under a price ceiling there is another to
    ask only at another backend, and with money for both at their worst.
    """
    choice = choices[place]
    if choice.acceptance is None:
        return "its policy asks for no test"
    candidate = choice.candidate
    if request.endpoint not in TESTABLE:
        return f"answers of {request.endpoint.value} say nothing that could be tested"
    if candidate.backend.provider:
        return "its provider's own API does not tell what the test asks for"
    later = choices[place + 1 :]
    if not later:
        return "there is nobody else to ask"
    ceiling_nanousd = request.terms.cost_nanousd_max
    if ceiling_nanousd is None:
        return ""
    left_nanousd = ceiling_nanousd - spent_nanousd_max - candidate.hold_nanousd
    others = [one.candidate for one in later if one.candidate.backend.name != candidate.backend.name]
    if any(one.hold_nanousd <= left_nanousd for one in others):
        return ""
    return f"the request's ceiling of {exact_dollars(ceiling_nanousd)} has no room for another answer beside it"
