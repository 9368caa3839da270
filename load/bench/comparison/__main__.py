"""`python -m load.bench.comparison --out docs/policies.md`: each scenario under every policy, and what that shows."""

from load.bench.comparison.command import comparison

if __name__ == "__main__":
    comparison()
