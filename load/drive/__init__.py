"""`jeton load drive`: a trace sent over HTTP to any OpenAI-compatible URL, and what came of it.

`schedule.py` decides when each request is due, `client.py` sends one and watches its answer, `process.py` runs a share of them
in a process of its own, `result.py` is the arithmetic of what was seen and `verdict.py` says whether it may be believed.
"""
