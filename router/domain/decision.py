"""What was predicted, what could serve the request, and what was chosen."""

from collections.abc import Sequence
from typing import Protocol

from router.domain.fleet import Backend, Load, Replica
from router.domain.immutable import immutable
from router.domain.request import InferenceRequest


@immutable
class Prediction:
    """The classifier's word on a prompt.

    small_suffices: probability, 0–1, that the small tier's answer is as good as the large one's.
    completion_tokens: expected, per choice.
    category: a task category, for people and for labels (a bounded set).
    uncertainty: 0 (like what it was trained on) to 1 (knows nothing; treat with care).
    """

    small_suffices: float
    completion_tokens: float
    category: str
    uncertainty: float


@immutable
class Quote:
    """What the request is expected to cost here, on the three bases, in nano-dollars. On a metered backend all are equal."""

    allocated_nanousd: int
    standard_nanousd: int
    marginal_nanousd: int


@immutable
class Candidate:
    """One replica that may serve the request, with its forecasts: values, though some are worked out when first asked for.

    load: what all workers of jeton have in flight there.
    quality: predicted, relative to the highest tier's (1.0): its tier's times its backend's quality_ratio.
    allocated_nanousd, standard_nanousd, marginal_nanousd: the quote on the three bases; on a metered backend all are equal.
        Marginal is what to choose by: what this request adds to the bill, less what the prefix cache saves there, network
        egress included.
    tier_level: the place of its tier, 0 for the weakest.
    hold_nanousd: the most that an attempt here can cost; 0 where nobody asks.
    cached_tokens: of the prompt's, those that its prefix cache is expected to hold.
    fill_ratio: sequences there, all people's, ÷ the batch that it should have; above 1 it is overfull. 0 where unknown (metered).
    is_spot: bought as interruptible capacity.
    wait_seconds: of the time to the first token, what passes before others have made room. silent_seconds: what of it was added
        because nothing was heard of the replica for so long; it is asked last then, but not known to be slow.
    cold_start_seconds: of the time to the first token, what the replica takes to be started; waking_nanousd: of the marginal
        quote, what is there because it is asleep. awake_nanousd: the marginal quote if it were awake.
    list_nanousd_per_million: prompt rate + completion rate, whatever the request is; the standard ones on a lease. A baseline's.
    step_seconds: of an engine's step that decodes this request, by the profile alone; a step may yield several tokens. 0 where
        there is no profile.
    """

    backend: Backend
    replica: Replica
    load: Load
    ttft_seconds: float
    tpot_seconds: float
    completion_tokens: float
    quality: float
    allocated_nanousd: int
    standard_nanousd: int
    marginal_nanousd: int
    tier_level: int = 0
    hold_nanousd: int = 0
    cached_tokens: int = 0
    fill_ratio: float = 0.0
    is_spot: bool = False
    list_nanousd_per_million: int = 0
    wait_seconds: float = 0.0
    silent_seconds: float = 0.0
    cold_start_seconds: float = 0.0
    waking_nanousd: int = 0
    step_seconds: float = 0.0

    @property
    def awake_nanousd(self) -> int:
        return self.marginal_nanousd - self.waking_nanousd

    @property
    def quote(self) -> Quote:
        return Quote(self.allocated_nanousd, self.standard_nanousd, self.marginal_nanousd)

    @property
    def end_seconds(self) -> float:
        """From dispatch to the last token, expected."""
        return self.ttft_seconds + self.completion_tokens * self.tpot_seconds


@immutable
class Exclusion:
    """Why a replica (or, when replica is empty, a whole backend) could not serve the request."""

    backend: str
    replica: str
    why: str


@immutable
class Acceptance:
    """What an answer must be for the client to get it; else the next choice is asked, and the attempt is written off.

    logprob_mean_min: the mean natural log-probability of its tokens. stream_tokens: of a stream, how many tokens are held back
    and judged; the rest is passed on as it comes. must_parse: a whole answer must be JSON (the client asked for a schema).
    """

    logprob_mean_min: float
    stream_tokens: int
    must_parse: bool = False


@immutable
class Choice:
    """A candidate in its rank, with the policy's reason in a few words of a bounded vocabulary (it becomes a label).

    acceptance: what its answer must be; None: whatever it is. The last choice has nobody to hand over to, so it is not tested.
    """

    candidate: Candidate
    reason: str
    acceptance: Acceptance | None = None


class Policy(Protocol):
    """A policy ranks eligible candidates, best first; the order is the failover order.

    It is pure and synchronous, returns every candidate exactly once, and holds no clock or randomness. State that it must
    keep (round robin) lives on the instance.
    """

    def rank(self, request: InferenceRequest, candidates: Sequence[Candidate]) -> list[Choice]: ...


@immutable
class Decision:
    """The outcome of one selection. `baseline` is the backend that savings are measured against.

    is_degraded: dearer tiers or pools were left out because a budget is under pressure.
    """

    policy: str
    choices: Sequence[Choice]
    exclusions: Sequence[Exclusion]
    prediction: Prediction | None
    baseline: str
    is_degraded: bool = False
