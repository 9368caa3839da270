"""Prometheus' text format (0.0.4), written a few times as fast as prometheus-client's own writer does it.

For counters, gauges and histograms, which is what there is here. The text of a series' labels is the larger part of the work and
never changes, so it is kept: as many as there are series, which is bounded. The result is the same, byte for byte.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.utils import floatToGoString

PIECE_LINES = 200
_text: Callable[[float], str] = floatToGoString

LabelItems = tuple[tuple[str, str], ...]


class Exposition:
    """labels_max: of how many series the labels' text is kept."""

    def __init__(self, labels_max: int = 100_000) -> None:
        self._labels_max = labels_max
        self._label_texts: dict[LabelItems, str] = {(): ""}

    def write(self, families: Iterable[Metric]) -> bytes:
        return b"".join(self.pieces(families))

    def pieces(self, families: Iterable[Metric]) -> Iterator[bytes]:
        """The same, a fraction of a millisecond's work at a time."""
        lines: list[str] = []
        for family in families:
            name = family.name + "_total" if family.type == "counter" else family.name
            lines.append(f"# HELP {name} {_escaped(family.documentation)}\n# TYPE {name} {family.type}\n")
            for sample in family.samples:
                items = tuple(sample.labels.items())
                text = self._label_texts.get(items)
                if text is None:
                    text = self._label_text(items)
                lines.append(f"{sample.name}{text} {_text(sample.value)}\n")
                if len(lines) >= PIECE_LINES:
                    yield "".join(lines).encode()
                    lines.clear()
            yield "".join(lines).encode()
            lines.clear()

    def _label_text(self, items: LabelItems) -> str:
        pairs = ",".join([f'{name}="{_escaped(value, quote=True)}"' for name, value in sorted(items)])
        if len(self._label_texts) >= self._labels_max:
            self._label_texts = {(): ""}
        text = self._label_texts[items] = f"{{{pairs}}}"
        return text


def _escaped(text: str, *, quote: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quote else text
