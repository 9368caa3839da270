"""Charges of the ledger as requests."""

from typing import Any

from load.traces.formats.charges import by_request


def row(request_id: str, number: int, status: str = "ok") -> dict[str, Any]:
    return {"request_id": request_id, "number": number, "status": status}


def test_attempts_are_in_their_order_and_a_shadow_is_none_of_them() -> None:
    rows = [row("a", 2), row("b", 1), row("b", 2, "shadow"), row("a", 1, "failed")]
    assert by_request(rows) == [[row("a", 1, "failed"), row("a", 2)], [row("b", 1)]]
