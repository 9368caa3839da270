"""One vLLM engine in time, the only one there is: behind the emulator's HTTP, in simulations."""

from load.engine.engine import BLOCK_TOKENS, Engine
from load.engine.records import EngineCounters, Step
from load.engine.sequence import EngineSequence, SequenceState
from load.engine.shares import Shares, StepMember

__all__ = [
    "BLOCK_TOKENS",
    "Engine",
    "EngineCounters",
    "EngineSequence",
    "SequenceState",
    "Shares",
    "Step",
    "StepMember",
]
