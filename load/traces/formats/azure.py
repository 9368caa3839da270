"""Azure's LLM inference traces (Azure/AzurePublicDataset): `TIMESTAMP,ContextTokens,GeneratedTokens`."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from load.traces.formats.table import arrivals
from load.traces.trace import Arrival, Trace


def is_header(line: str) -> bool:
    return line.strip().upper().startswith("TIMESTAMP,CONTEXTTOKENS")


def read(lines: Sequence[str]) -> Trace:
    found = list(arrivals(lines, _arrival))
    began = min((one.seconds for one in found), default=0.0)
    return Trace([one._replace(seconds=one.seconds - began) for one in found])


def _arrival(row: Mapping[str, str]) -> Arrival | None:
    """None for a request without tokens on one side: a handful were filtered by the service."""
    prompt_tokens, completion_tokens = int(row["ContextTokens"]), int(row["GeneratedTokens"])
    if not prompt_tokens or not completion_tokens:
        return None
    # Seven digits of a second; datetime takes six.
    whole, _, fraction = row["TIMESTAMP"].strip().partition(".")
    at = datetime.fromisoformat(whole)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    digits = fraction.split("+")[0]
    return Arrival(at.timestamp() + (float(f"0.{digits}") if digits else 0.0), prompt_tokens, completion_tokens)
