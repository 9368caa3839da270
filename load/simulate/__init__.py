"""`jeton load compare`: a trace under several policies in virtual time, with the router's own decisions and prices.

`asks.py` makes requests as the router would read them, `replica.py` is an engine with its meter, `world.py` the one queue of
events, `tally.py` what is remembered of them (as much for a million requests as for ten), `scenario.py` the file that says what
is compared, `table.py` what is told of it.
"""
