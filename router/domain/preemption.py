"""What is seen of replicas that are taken away, and what of it is remembered. Times in nanoseconds of the books' clock."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import NamedTuple

from router.domain.immutable import immutable


class Move(StrEnum):
    """taken: told to leave, or down without a word. back: it serves again. gone: nobody saw it come back, and nobody will."""

    TAKEN = "taken"
    BACK = "back"
    GONE = "gone"


class Sighting(NamedTuple):
    """why: of one that was taken, the state of its health."""

    backend: str
    pool: str
    replica: str
    move: Move
    at_ns: int
    why: str = ""


class Watch(NamedTuple):
    """So long so many of a backend's replicas were seen to be there."""

    backend: str
    since_ns: int
    until_ns: int
    replicas: int


@immutable
class Seen:
    """All that one process has to tell since it did last."""

    sightings: tuple[Sighting, ...]
    watches: tuple[Watch, ...]


@immutable
class Remembered:
    """Of one backend. count: how often a replica was taken. watched_ns: for how long replicas were there, together. returned,
    away_ns: of those that came back, how many they are and how long they were away, together. away: replicas that are, since
    when."""

    count: int = 0
    watched_ns: int = 0
    returned: int = 0
    away_ns: int = 0
    away: Mapping[str, int] = field(default_factory=dict)
