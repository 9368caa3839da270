"""`jeton demo`: an emulated fleet, the router in front of it, traffic from a real trace, and a live view of the money.

The router is the real one, in a process of its own; so is the fleet. What the view shows is read from the router's `/metrics`,
what the summary says from its ledger, as anybody else would.
"""

from load.demo.command import demo

__all__ = ["demo"]
