"""Label values that stay few, whatever comes in.

Every label set is a series that Prometheus keeps for ever, so a label may hold what configuration or an enumeration says and
nothing that a client or a backend sends. What exceeds its bound is counted under one name, `other`.
"""

from collections.abc import Iterable

from router.domain.attempt import OTHER


class Vocabulary:
    """The first so many distinct values, in the order they are met; all later ones are `other`.

    For words that our own code or configuration makes up (tenants, faults, reasons): a bound, not a filter.
    """

    def __init__(self, values_max: int, values: Iterable[str] = ()) -> None:
        self._values_max = values_max
        self._values = dict.fromkeys(values)

    def fold(self, value: str) -> str:
        if value in self._values:
            return value
        if len(self._values) >= self._values_max:
            return OTHER
        self._values[value] = None
        return value
