"""A request on its way through the simulation, and each try of it at a replica."""

from collections.abc import Sequence
from dataclasses import dataclass

from load.drive.schedule import Session
from load.engine import EngineSequence
from load.simulate.replica import SimulatedReplica
from router.domain.decision import Candidate, Choice, Prediction
from router.domain.request import InferenceRequest
from router.fleet.in_flight import Ticket
from router.pricing.price import LeasedPrice, MeteredPrice


@dataclass(slots=True, eq=False)
class Journey:
    """One request from its arrival to its end. choices: the ranking, where another than the first may come to be tried; place: of
    the one that is tried next. turn: its place in the session. retries: how many tries failed."""

    request: InferenceRequest
    prediction: Prediction
    choices: Sequence[Choice]
    prompt_tokens: int
    has_context: bool
    known_cached_tokens: int
    session: Session
    turn: int
    due_seconds: float
    place: int = 0
    retries: int = 0


@dataclass(slots=True, eq=False)
class Attempt:
    """One try, of this number. candidate: what was chosen, with its forecasts. price: what it was opened with. first_seconds:
    when the client saw the first token."""

    number: int
    journey: Journey
    candidate: Candidate
    replica: SimulatedReplica
    price: LeasedPrice | MeteredPrice
    ticket: Ticket
    sequence: EngineSequence
    first_seconds: float | None = None
    is_over: bool = False

    @property
    def id(self) -> str:
        return f"{self.journey.request.request_id}.{self.number}"
