"""Shape of router.yaml: how long backends are waited for, how often others are tried, and when a replica is left alone."""

from pydantic import Field

from router.config.section import Shape


class TimeoutsConfig(Shape):
    """Of upstream calls. total_seconds bounds an attempt whatever it does."""

    connect_seconds: float = Field(default=2.0, gt=0)
    first_byte_seconds: float = Field(
        default=60.0,
        gt=0,
        description="until a stream's first event, or the answer's status line; one that is not streamed has, besides, four times"
        " what all that it may have is forecast to take",
    )
    chunk_seconds: float = Field(default=30.0, gt=0, description="silence allowed inside a stream")
    total_seconds: float = Field(default=3600.0, gt=0)


class RetryConfig(Shape):
    """Failover before the first byte. Retries in all ≤ ratio × requests + per_second: an outage is not multiplied."""

    attempts_max: int = Field(default=3, ge=1, le=10, description="of one request, the first included")
    budget_ratio: float = Field(default=0.2, ge=0, description="retries that each request allows")
    budget_per_second: float = Field(default=10.0, ge=0, description="retries that each second allows besides")


class ReadOnConfig(Shape):
    """Answers that are read on after their client has left or a cascade has discarded them, for what they used
    (`when_client_leaves: read_on` of a backend). Beyond any of these the backend is stopped, and what it used is estimated."""

    seconds_max: float = Field(default=120.0, gt=0, description="after the client has left")
    bytes_max: int = Field(default=16 * 2**20, gt=0, description="of one stream, after the client has left")
    at_once_max: int = Field(default=64, ge=0)


class HealthConfig(Shape):
    """Health checks, scrapes, and what takes a replica out.

    jitter_ratio spreads the checks; a scrape older than stale_seconds is not believed. A metered backend that answers a smaller
    share of its attempts than availability_min, as learned over the last minutes, is asked only when nobody else can.
    """

    interval_seconds: float = Field(default=2.0, gt=0, description="between two checks of a replica")
    timeout_seconds: float = Field(default=1.0, gt=0)
    jitter_ratio: float = Field(default=0.2, ge=0, le=1)
    stale_seconds: float = Field(default=10.0, gt=0)
    failures_to_eject: int = Field(default=5, ge=1, description="attempts that fail in a row")
    ejection_seconds: float = Field(
        default=30.0,
        gt=0,
        description="how long it is left alone then; so much longer each time again, tenfold at most",
    )
    availability_min: float = Field(default=0.8, ge=0, lt=1, description="of metered backends; 0 switches it off")
    cooldown_seconds_max: float = Field(default=60.0, gt=0, description="cap on a backend's Retry-After")
