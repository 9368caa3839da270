"""Shape of router.yaml: what jeton listens on, what it accepts there, and what it says of itself."""

from typing import Annotated, Literal

from pydantic import Field

from router.config.section import HOST, Shape
from router.config.tenants import ApiKeyConfig


class ServerConfig(Shape):
    """Where the data port listens and what it accepts. A header or body that does not arrive in time gets a 408."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    body_bytes_max: int = Field(default=32 * 2**20, gt=0)
    header_bytes_max: int = Field(default=64 * 2**10, gt=0)
    header_count_max: int = Field(default=200, gt=0)
    header_seconds: float = Field(default=5.0, gt=0)
    body_seconds: float = Field(default=10.0, gt=0, description="silence allowed while a body is on its way")
    write_seconds: float = Field(default=30.0, gt=0, description="how long a client may read nothing of an answer")
    drain_seconds: float = Field(default=30.0, ge=0, description="how long streams may go on after SIGTERM")
    streams_expected: int = Field(
        default=10_000, gt=0, description="at once; the limit on open files is raised at start so that they fit"
    )
    completion_tokens_max: int = Field(default=1_000_000, gt=0, description="that a request may ask for")
    choices_max: int = Field(default=128, gt=0, description="that a request may ask for (`n`, `best_of`)")
    json_keys_max: int = Field(default=100_000, gt=0, description="of one body")
    schema_bytes_max: int = Field(
        default=256 * 2**10, gt=0, description="of each member that shapes an answer: `response_format`, `tools`, …"
    )
    schema_depth_max: int = Field(default=64, gt=0, le=1000, description="levels of JSON in it")
    pattern_bytes_max: int = Field(default=8 * 2**10, gt=0, description="of all patterns in such a member")
    pattern_nesting_max: int = Field(default=1, gt=0, description="repetitions of repetitions: `(a+)+` is 2")
    pattern_states_max: int = Field(default=10_000, gt=0, description="characters of a pattern, its counts written out")


class AdminConfig(Shape):
    """The admin port (`router/admin.py`): nobody gets by without one of its own keys, made and hashed as those of tenants."""

    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    api_keys: tuple[ApiKeyConfig, ...] = Field(min_length=1)


class MediaConfig(Shape):
    """Where engines may fetch images, sounds, videos and files from, if a request gives their address instead of the data.

    domains: host names, in full; `*`: whatever leads to public addresses. Empty: nowhere.
    """

    domains: tuple[Annotated[str, Field(pattern=HOST)], ...] = ()


class LogConfig(Shape):
    format: Literal["json", "console"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
