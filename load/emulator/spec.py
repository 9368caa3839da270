"""What one emulated replica is: model, engine, limits and the vLLM flags it was started with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from load.emulator.reply import Style
from load.engine import BLOCK_TOKENS
from router.pricing.profile import EngineProfile

VERSION = "0.32.0"

# About 3 ms a token whatever the load: quick enough for tests, slow enough to be interrupted.
QUICK = EngineProfile(
    step_overhead_seconds=2e-3,
    weight_read_seconds=1e-3,
    kv_read_seconds_per_token=1e-10,
    compute_seconds_per_token=1e-7,
    kv_capacity_tokens=2**20,
)


class Kind(StrEnum):
    """What the model does: writes text, embeds and compares it, or writes down speech."""

    GENERATE = "generate"
    EMBED = "embed"
    TRANSCRIBE = "transcribe"


class Dialect(StrEnum):
    """vllm: as vLLM 0.32 was recorded. openai: a metered cloud that is not vLLM, and says less. The others: one provider each,
    with its paths, keys and errors (`fronts/`)."""

    VLLM = "vllm"
    OPENAI = "openai"
    TOGETHER = "together"
    FIREWORKS = "fireworks"
    DEEPINFRA = "deepinfra"
    GROQ = "groq"
    OPENROUTER = "openrouter"
    AZURE = "azure"
    ANTHROPIC = "anthropic"
    BEDROCK = "bedrock"
    VERTEX = "vertex"


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One replica. Defaults are vLLM's, but for tool calls, which are on.

    model: the first served name; aliases: the others. context_tokens: `--max-model-len`.
    sequences_max: `--max-num-seqs`, the profile's when None. queued_max: `--max-num-queued-reqs`, no limit when None.
    shutdown_timeout_seconds: `--shutdown-timeout`. is_by_priority: `--scheduling-policy priority`. has_dev_mode:
        `VLLM_SERVER_DEV_MODE`. startup_seconds: how long the port stays shut at first, as while vLLM loads a model.
    cold_start_seconds: behind a platform that takes so long to start the replica for a request, and stops it after idle_seconds
        without one (`activator.py`); always there when None.
    block_tokens: `--block-size`, vLLM's on a CPU when left out.
    acceptance_by_kind: how often drafts are right for answers of that kind, 0–1 (`kinds.py`); the profile's ratio for all others.
    time_factor: engine seconds per second. stream_interval: tokens per streamed chunk.
    requests_per_minute: 429 with Retry-After beyond it (the clouds').
    entra_token: what azure asks for in the place of its API key. access_key: id and secret with which bedrock wants requests
        signed that come without its API key. service_account: the file of the account to which vertex gives tokens, and
        token_seconds how long they hold.
    """

    model: str = "emulated"
    aliases: tuple[str, ...] = ()
    profile: EngineProfile = QUICK
    kind: Kind = Kind.GENERATE
    dialect: Dialect = Dialect.VLLM
    api_key: str | None = None
    entra_token: str | None = None
    access_key: tuple[str, str] | None = None
    service_account: str | None = None
    token_seconds: int = 3600
    context_tokens: int = 32_768
    sequences_max: int | None = None
    queued_max: int | None = None
    shutdown_timeout_seconds: float = 0.0
    is_by_priority: bool = False
    has_dev_mode: bool = False
    startup_seconds: float = 0.0
    cold_start_seconds: float | None = None
    idle_seconds: float = 300.0
    block_tokens: int = BLOCK_TOKENS
    acceptance_by_kind: Mapping[str, float] = field(default_factory=dict)
    time_factor: float = 1.0
    style: Style = field(default_factory=Style)
    stream_interval: int = 1
    requests_per_minute: int | None = None
    embedding_dimensions: int = 128
    is_multimodal: bool = False
    has_tool_parser: bool = True
    has_prefix_cache: bool = True
    has_prompt_tokens_details: bool = False
    has_request_id_headers: bool = False
    has_request_metrics: bool = False
    has_load_tracking: bool = False

    @property
    def served_names(self) -> tuple[str, ...]:
        return (self.model, *self.aliases)
