"""Shape of router.yaml: engine profiles, spelled out or of a model and a GPU that jeton knows."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from router.config.section import Shape


class SpeculationConfig(Shape):
    """Speculative decoding, as `/metrics` of vLLM tells it: draft_tokens is `num_speculative_tokens`, acceptance_ratio the
    chance that a drafted token is right, given that those before it were, draft_seconds what drafting adds to a step."""

    draft_tokens: int = Field(gt=0, le=32)
    acceptance_ratio: float = Field(ge=0, le=1)
    draft_seconds: float = Field(default=0.0, ge=0)


class ProfileConfig(Shape):
    """An engine profile, from no more than the sheets' figures, of all GPUs of a replica together (see `pricing/profile.py` for
    the formulas)."""

    parameters_billion: float = Field(gt=0)
    active_parameters_billion: float | None = Field(default=None, gt=0)
    layers: int = Field(gt=0)
    kv_bytes_per_token: int = Field(gt=0)
    weight_bytes_per_parameter: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    bandwidth_gb_per_second: float = Field(gt=0)
    tflops: float = Field(gt=0)
    chunk_tokens: int = Field(default=8192, gt=0)
    sequences_max: int = Field(default=256, gt=0)
    sequences_target: int = Field(default=32, gt=0)


class ModelProfileConfig(Shape):
    """An engine profile of a model and a GPU that jeton knows: `jeton profile show MODEL QUANTIZATION GPU` says what it is.

    Measured where somebody has measured it, else a roofline of the model's shape and the GPU's sheet. What is left out is
    vLLM's default for the GPU. gpus: of one replica (tensor parallelism). kv_capacity_tokens: what vLLM reports at start
    ("GPU KV cache size"); say it where fp8 or nvfp4 go with a KV cache of 16 bits, for the measured engines had one of 8.
    """

    model: str = Field(min_length=1)
    gpu: str = Field(min_length=1)
    quantization: str = Field(min_length=1)
    gpus: int = Field(default=1, gt=0, le=64)
    chunk_tokens: int | None = Field(default=None, gt=0, description="vLLM's `--max-num-batched-tokens`")
    sequences_max: int | None = Field(default=None, gt=0, description="vLLM's `--max-num-seqs`")
    sequences_target: int | None = Field(
        default=None, gt=0, description="the batch at which a token's standard price is reckoned"
    )
    kv_capacity_tokens: int | None = Field(default=None, gt=0)
    speculation: SpeculationConfig | None = None


def _profile_kind(value: Any) -> str:
    """By its members: one that names a model is looked up, any other spells out its figures."""
    if isinstance(value, dict):
        return "catalogue" if "model" in value or "gpu" in value else "figures"
    return "catalogue" if isinstance(value, ModelProfileConfig) else "figures"


AnyProfileConfig = Annotated[
    Annotated[ProfileConfig, Tag("figures")] | Annotated[ModelProfileConfig, Tag("catalogue")],
    Discriminator(_profile_kind),
]
