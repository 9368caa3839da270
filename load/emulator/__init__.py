"""An emulated vLLM: the engine of `load/engine/` behind vLLM's HTTP, as recorded from a real vLLM 0.32.0."""

from load.emulator.faults import Fault
from load.emulator.fleet import EmulatedFleet
from load.emulator.replica import Replica, SeenRequest
from load.emulator.reply import Style
from load.emulator.spec import QUICK, Dialect, Kind, ReplicaSpec

__all__ = ["QUICK", "Dialect", "EmulatedFleet", "Fault", "Kind", "Replica", "ReplicaSpec", "SeenRequest", "Style"]
