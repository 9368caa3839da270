"""From a model's shape and a GPU's sheet to an engine profile: ideal times by arithmetic, efficiencies by measurement.

An engine's *ideal* times are what its bytes and FLOPs would take at the sheet's peaks. Its *efficiencies* are products of a
few named constants, most of them shared by all engines, so that one that nobody measured is forecast from those that
somebody did. `load/calibration` fits the constants; `router/profiles.yaml` holds them.

Written so that a column of many engines goes through the same lines as one does: only + − × ÷ between quantities.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from typing import Any, Generic, NamedTuple, TypeVar

from router.pricing.profile import EngineProfile

Q = TypeVar("Q")  # a quantity: of one engine, or a column of many

GIGA = 1e9
TERA = 1e12
GIB = 2**30


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What a model is made of, counted once for all quantizations. Parameters, not bytes.

    linear_parameters: those that every token is multiplied by, without the head and the experts.
    head_parameters: vocabulary × hidden, of the output head; the embedding is as large, and takes memory alone.
    expert_parameters: of all experts together. expert_ratio: the share of them that one token touches; 0 without experts.
    kv_values_per_token: numbers in the cache per token of context, in layers that keep all of it.
    kv_heads: what tensor parallelism can divide the cache by; 1 for MLA, whose cache every GPU holds whole.
    attention_flops_per_pair: of one token attending to one other, over all layers.
    reduces_per_layer: all-reduces of a layer under tensor parallelism: after attention and after the MLP, and for
        MiniMax's norm over all heads one more.
    has_qk_norm: queries and keys are normed, one more launch a layer.
    """

    name: str
    layers: int
    hidden: int
    linear_parameters: float
    head_parameters: float
    expert_parameters: float
    expert_ratio: float
    kv_values_per_token: float
    kv_heads: int
    attention_flops_per_pair: float
    reduces_per_layer: int = 2
    has_qk_norm: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's sheet. memory_gib: what a process can have. tflops: dense peaks by arithmetic. link_gb_per_second: scale-up
    bandwidth in one direction. family: whose kernels it runs, for the efficiencies."""

    name: str
    family: str
    memory_gib: float
    bandwidth_gb_per_second: float
    tflops: Mapping[str, float]
    link_gb_per_second: float


class Quantization(NamedTuple):
    """weight, expert: bytes a parameter, scales included. weight_kind, expert_kind: which constants describe reading and
    multiplying them. compute, expert_compute: the arithmetic. quantizes: activations are quantized before each product.
    kv: bytes a value of the cache."""

    weight_bytes: float
    weight_kind: str
    compute: str
    expert_bytes: float
    expert_kind: str
    expert_compute: str
    quantizes: bool
    kv_bytes: float


# Bytes a parameter: NVFP4 has an 8-bit scale for every 16 weights, MXFP4 for every 32; AWQ and GPTQ 16 bits for every 128 and
# a packed zero point. The KV cache is 8 bits wide where the measured runs had it so (`--kv-cache-dtype fp8`).
QUANTIZATIONS: Mapping[str, Quantization] = {
    "bf16": Quantization(2, "bf16", "bf16", 2, "bf16", "bf16", False, 2),
    "fp8": Quantization(1, "fp8", "fp8", 1, "fp8", "fp8", True, 1),
    "nvfp4": Quantization(0.5625, "fp4", "fp4", 0.5625, "fp4", "fp4", True, 1),
    "mxfp4": Quantization(2, "bf16", "bf16", 0.53125, "mxfp4", "bf16", False, 2),  # gpt-oss: only experts are quantized
    "int8": Quantization(1, "fp8", "int8", 1, "fp8", "int8", True, 2),
    "int4": Quantization(0.53, "fp4", "bf16", 0.53, "int4", "bf16", False, 2),
}
ALIASES: Mapping[str, str] = {
    "fp16": "bf16", "float16": "bf16", "bfloat16": "bf16", "fp4": "nvfp4", "awq-int4": "int4", "gptq-int4": "int4",
    "w4a16": "int4", "w8a8": "int8", "fp8_block": "fp8",
}  # fmt: skip

# Where experts alone are quantized to four bits, attention stays at 16 (Kimi K2.5).
INT4_EXPERTS = QUANTIZATIONS["int4"]._replace(weight_bytes=2, weight_kind="bf16")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One engine to be: a model in a quantization on some GPUs of a kind. attention_groups: data-parallel attention, each
    group of GPUs with its own requests and the whole of the attention's weights; experts are spread over all."""

    model: ModelShape
    gpu: Gpu
    quantization: str
    gpus: int = 1
    engine: str = "vllm"
    engine_version: str = ""
    attention_groups: int = 1


class Ideal(NamedTuple, Generic[Q]):
    """Times at the sheet's peaks, in seconds, and counts of what a layer launches. Of one GPU, in a step of the engine."""

    weight_read: Q
    head_read: Q
    expert_read: Q
    expert_ratio: Q
    weight_compute: Q
    expert_compute: Q
    kv_read: Q
    pair_compute: Q
    activation: Q
    reduce_transfer: Q
    layers: Q
    reduces: Q
    expert_layers: Q
    quantized_layers: Q
    normed_layers: Q


class Efficiency(NamedTuple, Generic[Q]):
    """What of the ideal is achieved (bandwidth…, rate…: ratios), and what no sheet says (seconds, counts)."""

    bandwidth: Q
    head_bandwidth: Q
    expert_bandwidth: Q
    rate: Q
    expert_rate: Q
    kv_bandwidth: Q
    attention_rate: Q
    link: Q
    activation_passes: Q
    expert_spread: Q
    step_seconds: Q
    layer_seconds: Q
    reduce_seconds: Q
    expert_layer_seconds: Q
    quantize_seconds: Q
    norm_seconds: Q
    launch_ratio: Q
    sequence_seconds: Q
    prefill_seconds: Q


class Coefficients(NamedTuple, Generic[Q]):
    """The times of an `EngineProfile`, by its names."""

    step_overhead_seconds: Q
    weight_read_seconds: Q
    kv_read_seconds_per_token: Q
    compute_seconds_per_token: Q
    attention_seconds_per_pair: Q
    expert_read_seconds: Q
    expert_miss_ratio: Q
    token_seconds: Q
    sequence_seconds: Q
    prefill_overhead_seconds: Q


@dataclass(frozen=True, slots=True)
class Correction:
    """What the runs of one deployment say of it beyond the shared constants, as factors: of its overheads, of what it reads, of
    what it computes, and of what the requests of a closed loop wait before they are scheduled (`load/calibration`)."""

    overhead: float = 1.0
    read: float = 1.0
    compute: float = 1.0
    request: float = 1.0


UNCORRECTED = Correction()


def quantization_of(deployment: Deployment) -> Quantization:
    """Raises ValueError, with the names there are, for one that is unknown."""
    name = deployment.quantization.lower()
    name = ALIASES.get(name, name)
    if name not in QUANTIZATIONS:
        raise ValueError(f"no quantization `{deployment.quantization}`; there are {', '.join(QUANTIZATIONS)}")
    if name == "int4" and deployment.model.expert_parameters:
        return INT4_EXPERTS
    return QUANTIZATIONS[name]


def peak_tflops(gpu: Gpu, arithmetic: str) -> tuple[str, float]:
    """The arithmetic that the GPU does instead where it has none of the kind asked for, and its peak: FP4 weights are
    multiplied in FP8 or BF16 on GPUs without FP4 units, FP8 weights in BF16 before Ada."""
    for fallback in dict.fromkeys((arithmetic, *{"fp4": ("fp8", "bf16")}.get(arithmetic, ("bf16",)))):
        peak = gpu.tflops.get(fallback, 0.0)
        if peak:
            return fallback, peak
    raise ValueError(f"the sheet of {gpu.name} gives no rate for {arithmetic}")


def ideal(deployment: Deployment) -> Ideal[float]:
    model, gpu, gpus = deployment.model, deployment.gpu, deployment.gpus
    quantization = quantization_of(deployment)
    groups = deployment.attention_groups
    attention_gpus = gpus // groups
    bandwidth = gpu.bandwidth_gb_per_second * GIGA
    rate = peak_tflops(gpu, quantization.compute)[1] * TERA
    expert_rate = peak_tflops(gpu, quantization.expert_compute)[1] * TERA
    attention_rate = peak_tflops(gpu, "bf16")[1] * TERA
    link = max(gpu.link_gb_per_second, 1) * GIGA
    layers = model.layers
    reduces = layers * model.reduces_per_layer * (gpus > 1)
    # A ring sends and receives each token's vector (16 bits a value) 2 · (n − 1) ÷ n times.
    transfer_bytes = reduces * model.hidden * 2 * 2 * (gpus - 1) / gpus / groups
    return Ideal(
        weight_read=model.linear_parameters * quantization.weight_bytes / attention_gpus / bandwidth,
        head_read=model.head_parameters * 2 / attention_gpus / bandwidth,
        expert_read=model.expert_parameters * quantization.expert_bytes / gpus / bandwidth,
        expert_ratio=model.expert_ratio,
        weight_compute=2 * model.linear_parameters / attention_gpus / groups / rate,
        expert_compute=2 * model.expert_parameters * model.expert_ratio / gpus / expert_rate,
        kv_read=model.kv_values_per_token * quantization.kv_bytes / _kv_shards(deployment) / groups / bandwidth,
        pair_compute=model.attention_flops_per_pair / gpus / attention_rate,
        # Norms and residuals are not divided by tensor parallelism, the MLP's own activations are: √n between the two.
        activation=layers * model.hidden * 2 / bandwidth / gpus**0.5,
        reduce_transfer=transfer_bytes / link,
        layers=float(layers),
        reduces=reduces * (1 + log2(gpus) / 4),  # measured all-reduces of small messages, H100 and B200, 2 to 8 GPUs
        expert_layers=float(layers * (model.expert_parameters > 0)),
        quantized_layers=float(layers * quantization.quantizes),
        normed_layers=float(layers * model.has_qk_norm),
    )


def efficiency_terms(deployment: Deployment) -> Efficiency[tuple[str, ...]]:
    """The constants whose product each efficiency is, by name. One that is not in a table counts 1."""
    engine, family = deployment.engine, deployment.gpu.family
    quantization = quantization_of(deployment)
    compute = peak_tflops(deployment.gpu, quantization.compute)[0]
    expert_compute = peak_tflops(deployment.gpu, quantization.expert_compute)[0]
    expert_rate = quantization.expert_kind if quantization.expert_kind in ("mxfp4", "int4") else expert_compute
    version = f"{engine}_{deployment.engine_version}"

    def by_engine(name: str, *others: str) -> tuple[str, ...]:
        return (name, f"{name}_{engine}", *others)

    every = by_engine("efficiency")
    return Efficiency(
        bandwidth=(f"bandwidth_{quantization.weight_kind}", *every),
        head_bandwidth=("bandwidth_bf16", *every),
        expert_bandwidth=(f"expert_bandwidth_{family}_{quantization.expert_kind}", *every),
        rate=(f"rate_{family}_{_known(compute)}", *every),
        expert_rate=(f"expert_rate_{family}_{_known(expert_rate)}", *every),
        kv_bandwidth=("kv_bandwidth", f"kv_bandwidth_{family}"),
        attention_rate=("attention_rate",),
        link=("link", f"link_{family}"),
        activation_passes=("activation_passes",),
        expert_spread=("expert_spread",),
        step_seconds=by_engine("step"),
        layer_seconds=("layer",),
        reduce_seconds=("reduce", f"reduce_{family}"),
        expert_layer_seconds=(f"expert_layer_{family}_{quantization.expert_kind}",),
        quantize_seconds=("quantize",),
        norm_seconds=("norm",),
        launch_ratio=by_engine("launch", f"launch_{version}", f"launch_{deployment.model.name}"),
        sequence_seconds=by_engine("sequence"),
        prefill_seconds=by_engine("prefill"),
    )


def coefficients(t: Ideal[Any], e: Efficiency[Any]) -> Coefficients[Any]:
    """Ideal times over efficiencies: of one engine in floats, or of a column of them."""
    launches = (
        t.layers * e.layer_seconds
        + t.reduces * e.reduce_seconds
        + t.expert_layers * e.expert_layer_seconds
        + t.quantized_layers * e.quantize_seconds
        + t.normed_layers * e.norm_seconds
    )
    return Coefficients(
        step_overhead_seconds=e.step_seconds + launches * e.launch_ratio,
        weight_read_seconds=t.weight_read / e.bandwidth + t.head_read / e.head_bandwidth,
        kv_read_seconds_per_token=t.kv_read / e.kv_bandwidth,
        compute_seconds_per_token=t.weight_compute / e.rate + t.expert_compute / e.expert_rate,
        attention_seconds_per_pair=t.pair_compute / e.attention_rate,
        expert_read_seconds=t.expert_read / e.expert_bandwidth,
        expert_miss_ratio=1 - t.expert_ratio * e.expert_spread,
        token_seconds=t.reduce_transfer / e.link + t.activation * e.activation_passes,
        sequence_seconds=e.sequence_seconds,
        prefill_overhead_seconds=e.prefill_seconds,
    )


def correct(c: Coefficients[Any], by: Correction) -> Coefficients[Any]:
    return Coefficients(
        step_overhead_seconds=c.step_overhead_seconds * by.overhead,
        weight_read_seconds=c.weight_read_seconds * by.read,
        kv_read_seconds_per_token=c.kv_read_seconds_per_token * by.read,
        compute_seconds_per_token=c.compute_seconds_per_token * by.compute,
        attention_seconds_per_pair=c.attention_seconds_per_pair * by.compute,
        expert_read_seconds=c.expert_read_seconds * by.read,
        expert_miss_ratio=c.expert_miss_ratio,
        token_seconds=c.token_seconds * by.compute,
        sequence_seconds=c.sequence_seconds * by.overhead,
        prefill_overhead_seconds=c.prefill_overhead_seconds * by.overhead,
    )


def kv_capacity_tokens(deployment: Deployment, memory_ratio: float) -> float:
    """Tokens that the whole engine's KV cache holds, or less than 1. memory_ratio: the share of a GPU's memory that weights
    and cache may have together; activations, CUDA graphs and the engine itself have the rest."""
    model, gpus = deployment.model, deployment.gpus
    quantization = quantization_of(deployment)
    attention_gpus = gpus // deployment.attention_groups
    weight_bytes = (
        model.linear_parameters * quantization.weight_bytes / attention_gpus
        + 2 * model.head_parameters * 2 / attention_gpus
        + model.expert_parameters * quantization.expert_bytes / gpus
    )
    free_bytes = deployment.gpu.memory_gib * GIB * memory_ratio - weight_bytes
    token_bytes = model.kv_values_per_token * quantization.kv_bytes / _kv_shards(deployment)
    return free_bytes / token_bytes * deployment.attention_groups


def derive(
    deployment: Deployment,
    constants: Mapping[str, float],
    correction: Correction = UNCORRECTED,
    *,
    chunk_tokens: int = 8192,
    sequences_max: int = 256,
    sequences_target: int = 32,
) -> EngineProfile:
    """The profile of a deployment. Raises ValueError when its weights leave no room for a KV cache."""

    def product(names: tuple[str, ...]) -> float:
        value = 1.0
        for name in names:
            value *= constants.get(name, 1.0)
        return value

    efficiency: Efficiency[float] = Efficiency._make(map(product, efficiency_terms(deployment)))
    table = correct(coefficients(ideal(deployment), efficiency), correction)
    capacity = int(kv_capacity_tokens(deployment, constants["memory"]))
    if capacity < 1:
        gpu, gpus = deployment.gpu, deployment.gpus
        raise ValueError(
            f"the weights of {deployment.model.name} in {deployment.quantization} leave no room for a KV cache"
            f" on {gpus} × {gpu.name} ({gpu.memory_gib:.0f} GiB each)"
        )
    times = table._asdict()
    times["expert_miss_ratio"] = max(table.expert_miss_ratio, 0.0) if deployment.model.expert_parameters else 0.0
    return EngineProfile(
        **times,
        request_overhead_seconds=constants["request_live"],
        chunk_tokens=chunk_tokens,
        sequences_max=sequences_max,
        kv_capacity_tokens=capacity,
        sequences_target=sequences_target,
    )


def _kv_shards(deployment: Deployment) -> int:
    """GPUs that share one sequence's cache: with more GPUs than KV heads, some hold copies."""
    return max(1, min(deployment.gpus // deployment.attention_groups, deployment.model.kv_heads))


def _known(arithmetic: str) -> str:
    """INT8 products have no measurements of their own; FP8's stand in."""
    return "fp8" if arithmetic == "int8" else arithmetic
