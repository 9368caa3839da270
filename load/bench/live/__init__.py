"""The comparison of policies over HTTP (`python -m load.bench.policies`).

What is sent to which fleet (`case.py`), one policy's run (`run.py`), replicas that are taken away meanwhile (`spot.py`), the bill
(`bill.py`), and the page (`page.py`).
"""
