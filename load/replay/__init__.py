"""`jeton replay`: the requests of a ledger under another policy, or at other prices, in simulated time.

`recorded.py` is what the ledger knows of a request, `asks.py` makes it a request again, `run.py` runs them under both policies,
`table.py` sets them side by side.
"""
