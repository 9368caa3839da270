"""`jeton load simulate` and `jeton load compare`: a trace in virtual time, with the router's own decisions, prices and meters.

`scenario.py` is the file that says what is run. `asks.py` makes requests as the router would read them, `decider.py` decides on
them, `replica.py` is an engine with its meter, `attempt.py` a try at one, `world.py` the one queue of events, `happenings.py` and
`scaling.py` what befalls the fleet, `tally.py` what is remembered (as much for a million requests as for ten), `table.py` what is
told of it.
"""
