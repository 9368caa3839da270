"""What workers tell one another of replicas that scale to zero."""

from typing import NamedTuple


class Wake(NamedTuple):
    """Of one replica, as one worker knows it; nanoseconds of the books' clock.

    began_ns, ready_ns: of its last start, when it began and from when it answers, or will. quiet_ns: since when nothing is asked
    of it, or now while something is; 0: it was never asked. missed_nanousd: what this worker's requests paid more elsewhere
    because it slept, as of missed_ns.
    """

    began_ns: int
    ready_ns: int
    quiet_ns: int
    missed_nanousd: int
    missed_ns: int
