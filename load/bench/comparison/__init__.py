"""All policies on a few scenarios in simulated time, as one page: `python -m load.bench.comparison`."""
