"""The audit as a teardown: whatever a test did, the ledger's bill can be reckoned again from its journal, to the nano-dollar."""

from pathlib import Path

from router.audit import Audit, audit


def assert_audit_is_clean(path: Path, metrics_text: str | None = None) -> Audit:
    """metrics_text: scraped just before, from the router that writes the ledger. Says row by row what is off."""
    found = audit(path, metrics_text, "scraped")
    assert not found.findings, "\n".join(
        f"{one.table} {one.row}: {one.what} is {one.stored}, should be {one.should_be}" for one in found.findings[:20]
    )
    return found
