"""How a ledger of an older jeton becomes one of this: revisions for Alembic, one file each in `versions/`."""
