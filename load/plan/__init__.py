"""`jeton plan`: what is to be served in, the cheapest fleet that serves it out, and where another way of buying becomes cheaper.

`demand.py` says what comes, `trial.py` puts it on one engine in virtual time, `capacity.py` finds how much of it a replica takes
within the objectives, `purchase.py` knows the ways of paying and their break-even points, `fleet.py` picks. `market.py` reads the
shipped profiles and a price book; `table.py` and `command.py` tell.
"""
