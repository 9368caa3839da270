"""Traces: when requests arrived, how long they were, and what of their prompts they shared. No text, no decisions.

`trace.py` has the nouns, `reading.py` finds the format of a file, `formats/` has one file for each, `shaping.py` clips, scales
and thins, `synthetic.py` makes arrivals up from a seed.
"""

from load.traces.reading import AZURE_CONVERSATION, DATA, read_trace
from load.traces.trace import Arrival, Trace

__all__ = ["AZURE_CONVERSATION", "DATA", "Arrival", "Trace", "read_trace"]
