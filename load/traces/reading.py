"""A file, whatever its format, as a trace."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

from load.traces.formats import azure, burstgpt, columns, mooncake, weka
from load.traces.trace import Trace

DATA = Path(__file__).parents[1] / "data"
AZURE_CONVERSATION = DATA / "azure_conv_2023_10min.csv.gz"

# Read in this order: the first whose mark is on the first line. `weka` reads whole files and directories of them.
LINED: dict[str, tuple[Callable[[str], bool], Callable[[list[str]], Trace]]] = {
    "columns": (columns.is_header, columns.read),
    "azure": (azure.is_header, azure.read),
    "burstgpt": (burstgpt.is_header, burstgpt.read),
    "mooncake": (mooncake.is_line, mooncake.read),
}
FORMATS = (*LINED, "weka")


def read_trace(path: Path = AZURE_CONVERSATION) -> Trace:
    """The whole trace, gzipped or not; its format is told by its first line. A directory holds one agent session per file.

    Raises OSError, and ValueError (with the path and, where there is one, the line) for what cannot be read as a trace.
    """
    try:
        if path.is_dir():
            return weka.read([(file.name, json.loads(_text(file))) for file in sorted(path.glob("*.json*"))])
        text = _text(path)
        lines = text.splitlines()
        first = lines[0].lstrip("\ufeff") if lines else ""
        for is_of, read in LINED.values():
            if is_of(first):
                return read([first, *lines[1:]])
        if text.lstrip().startswith("{"):
            return weka.read([(path.name, json.loads(text))])
    except (ValueError, KeyError, TypeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: {what}") from error
    raise ValueError(f"{path}: its first line is that of no format known here ({', '.join(FORMATS)})")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
