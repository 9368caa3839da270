"""How often replicas were looked for, and whether their source could tell: of every process that follows the fleet."""

from prometheus_client import CollectorRegistry

from router.telemetry.tally import Counter


def discoveries_counter(registry: CollectorRegistry) -> Counter:
    return Counter(
        registry,
        "jeton_discoveries",
        "Times that a backend's replicas were looked for. failed: nothing was told, and what was known stays.",
        "backend",
        "result",
    )
