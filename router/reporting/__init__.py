"""Numbers for people out of the ledger's hours: where the money went, what was saved, what an invoice says. Pure."""
