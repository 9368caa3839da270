"""The books: what happens to attempts becomes money, by joining the meters of `pricing/` with the `ledger/`; and what holds it
against its journal.

`books.py` says which of these files are at work in a process."""
