"""One vLLM engine in time, the only one there is: behind the emulator's HTTP, in simulations."""

from load.engine.engine import Engine, EngineCounters, Step
from load.engine.sequence import EngineSequence, SequenceState
from load.engine.shares import Shares, StepMember

__all__ = ["Engine", "EngineCounters", "EngineSequence", "SequenceState", "Shares", "Step", "StepMember"]
