"""How the nouns of a request are declared: immutable by type, cheap to make.

A frozen dataclass sets each field through `object.__setattr__`, which for the hundred fields that one request fills costs more
than parsing its body. Here a type checker refuses the assignment instead, and making one costs plain attribute stores.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def immutable(cls: type[T]) -> type[T]:
    """A dataclass with slots, equality and hash that nobody assigns to after it is made."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
