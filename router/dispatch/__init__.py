"""Sending a request to a replica and bringing its answer back. Knows sockets and time-outs; not tenants, money or policies."""
