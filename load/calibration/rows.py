"""Measured runs of engines, and the sheets of the GPUs and models that go with them, as values. Reads files, fits nothing.

What the columns mean, where they come from and which traps they hold is in the README beside the data.
"""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from router.pricing.roofline import Deployment, Gpu, ModelShape

MORE_MODELS = Path(__file__).with_name("models.csv")

# Their runs may have had multi-token prediction on or off, and the source does not say which: they are fitted by nothing, and
# reported apart.
AMBIGUOUS_MODELS = frozenset({"deepseek-r1", "deepseek-v3", "glm-5", "qwen3.5-397b-a17b"})

MODEL_ALIASES = {"deepseek-v3.1": "deepseek-v3"}
BLACKWELL = frozenset({"Blackwell", "Blackwell Ultra"})
GPU_NAMES = {"A100-SXM-80GB": "a100", "A100-PCIe-80GB": "a100-pcie", "RTX-PRO-6000-Server": "rtx-pro-6000"}

# Of InferenceX's runs: lengths are uniform between 0.8 and 1.0 of the nominal, so the mean is 0.9.
RANDOM_LENGTH_RATIO = 0.9


@dataclass(frozen=True, slots=True)
class Run:
    """One closed-loop measurement: `concurrency` clients, each with one request after the other. Lengths are means."""

    deployment: Deployment
    prompt_tokens: float
    completion_tokens: float
    concurrency: int
    has_random_lengths: bool
    ttft_seconds: float
    tpot_seconds: float

    @property
    def group(self) -> str:
        """What is left out together."""
        return f"{self.deployment.model.name} on {self.deployment.gpu.name}"

    @property
    def tokens_per_second(self) -> float:
        """By Little's law, as the source derives it."""
        return tokens_per_second(self.concurrency, self.completion_tokens, self.ttft_seconds, self.tpot_seconds)


def tokens_per_second(concurrency: float, completion_tokens: float, ttft_seconds: float, tpot_seconds: float) -> float:
    return concurrency * completion_tokens / (ttft_seconds + (completion_tokens - 1) * tpot_seconds)


def short_name(model: str) -> str:
    """`meta-llama/Llama-3.1-70B-Instruct-FP8` is `llama-3.1-70b`."""
    name = model.rpartition("/")[2].lower()
    name = re.sub(r"-(hf|fp8|nvfp4|instruct(-(hf|2407|v0\.1))?)$", "", re.sub(r"-(hf|fp8|nvfp4)$", "", name))
    return MODEL_ALIASES.get(name, name)


def gpu_name(gpu: str) -> str:
    """`H100-SXM` is `h100`."""
    return GPU_NAMES.get(gpu, gpu.removesuffix("-SXM").lower())


def read_gpus(path: Path) -> dict[str, Gpu]:
    """Sheets by name, of all GPUs whose sheet gives a BF16 rate."""
    gpus: dict[str, Gpu] = {}
    for row in _rows(path):
        if not row["bf16_dense_tflops"]:
            continue
        tflops = {
            arithmetic: float(row[column])
            for arithmetic, column in (
                ("bf16", "bf16_dense_tflops"),
                ("fp8", "fp8_dense_tflops"),
                ("fp4", "fp4_dense_tflops"),
                ("int8", "int8_dense_tops"),
            )
            if row[column]
        }
        if "fp4" in tflops:
            # Blackwell Ultra's sheet says 14,000 and 15,000; its measured products run at Blackwell's pace (4,781 against
            # 4,268 TFLOPS at m = n = k = 8192, kernel_efficiency_summary.csv), so their ratio to the peak would not carry over.
            tflops["fp4"] = min(tflops["fp4"], 2 * tflops["fp8"])
        name = gpu_name(row["gpu"])
        gpus[name] = Gpu(
            name=name,
            family="blackwell" if row["arch"] in BLACKWELL else "hopper",  # whatever nobody measured counts as Hopper
            memory_gib=float(row["mem_usable_gib"]) if row["mem_usable_gib"] else float(row["mem_gb"]) * 1e9 / 2**30,
            bandwidth_gb_per_second=float(row["mem_bw_gbps"]),
            tflops=tflops,
            link_gb_per_second=float(row["scaleup_gbps_per_dir"] or 0),
        )
    return gpus


def read_models(path: Path) -> dict[str, ModelShape]:
    """Shapes by name: those of the data, and those that come with jeton for the open-loop runs and popular models."""
    return {shape.name: shape for source in (MORE_MODELS, path) for shape in map(_shape, _rows(source))}


def read_runs(path: Path, models: Mapping[str, ModelShape], gpus: Mapping[str, Gpu]) -> list[Run]:
    runs = []
    for row in _rows(path):
        gpus_count = int(row["n_gpus"])
        groups = int(row["attn_dp"] or 1)
        if groups < 1 or groups > gpus_count or gpus_count % groups:
            groups = 1  # the importer's artefact that `flag` tells of
        model = models[short_name(row["model"])]
        is_random = row["random_len_0.8_to_1.0"] == "1"
        ratio = RANDOM_LENGTH_RATIO if is_random else 1.0
        precision = "mxfp4" if model.name.startswith("gpt-oss") else row["precision"].replace("fp4", "nvfp4")
        runs.append(
            Run(
                deployment=Deployment(
                    model=model,
                    gpu=gpus[gpu_name(row["gpu"])],
                    quantization=precision,
                    gpus=gpus_count,
                    engine=row["engine"],
                    engine_version=row["engine_version"] or "unnamed",
                    attention_groups=groups,
                ),
                prompt_tokens=int(row["isl"]) * ratio,
                completion_tokens=int(row["osl"]) * ratio,
                concurrency=int(row["concurrency"]),
                has_random_lengths=is_random,
                ttft_seconds=float(row["ttft_ms"]) / 1e3,
                tpot_seconds=float(row["tpot_ms"]) / 1e3,
            )
        )
    return runs


def version_of(*paths: Path) -> str:
    """Which data it was, to the byte."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _shape(row: Mapping[str, str]) -> ModelShape:
    """Parameters by what is done with them. A layer's attention is counted from its heads; where its projections have another
    form (MLA, linear attention) it is what the total leaves."""

    def number(column: str) -> float:
        return float(row[column]) if row[column] else 0.0

    name = short_name(row["model"])
    layers, hidden = int(row["layers"]), int(row["hidden"])
    heads, kv_heads, head_dim = number("heads"), number("kv_heads"), number("head_dim")
    total, active = number("params_total_b") * 1e9, number("params_active_b") * 1e9
    head = number("vocab") * hidden
    is_mla = row["attention"] == "MLA"
    kv_bytes = number("kv_bytes_per_token_bf16")
    # "only 18 layers keep full-length KV -> 36864 B/token bf16": the others slide over a short window.
    full_length = re.search(r"-> (\d+) B/token", row["notes"])
    kept_bytes = float(full_length.group(1)) if full_length else kv_bytes
    experts, per_token = number("experts"), number("experts_per_token")
    expert_parameters = expert_ratio = 0.0
    if experts:
        expert_ratio = per_token / experts
        expert_parameters = (total - active) / (1 - expert_ratio)
    if experts and not is_mla and "linear_attention" not in row["notes"]:
        linear = layers * (hidden * head_dim * (heads + 2 * kv_heads) + heads * head_dim * hidden)
    else:
        embeddings = head if "embedding and head are one" in row["notes"] else 2 * head
        linear = total - expert_parameters - embeddings
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        linear_parameters=linear,
        head_parameters=head,
        expert_parameters=expert_parameters,
        expert_ratio=expert_ratio,
        kv_values_per_token=kept_bytes / 2,
        kv_heads=1 if is_mla else int(kv_heads),
        # MLA's prompts attend with heads of 128 (and 64 for position).
        attention_flops_per_pair=4 * heads * (128 if is_mla else head_dim) * layers * kept_bytes / kv_bytes,
        reduces_per_layer=3 if name.startswith("minimax") else 2,
        has_qk_norm=name.startswith(("qwen3", "minimax")),
    )


@dataclass(frozen=True, slots=True)
class OpenRun:
    """One open-loop measurement of vLLM on H100s, over one or more stages of a fixed rate. Means, seconds.

    spec: whether the workload was recorded (`exact`) or `inferred from category`. system_tokens: of every prompt, shared and
    so cached.
    """

    experiment: str
    deployment: Deployment
    chunk_tokens: int
    sequences_max: int
    rates_per_second: tuple[float, ...]
    system_tokens: float
    question_tokens: float
    completion_tokens: float
    spec: str
    ttft_seconds: float
    tpot_seconds: float
    e2e_seconds: float


def read_open_runs(path: Path, models: Mapping[str, ModelShape], gpus: Mapping[str, Gpu]) -> list[OpenRun]:
    """All whose workload is known."""
    return [
        OpenRun(
            experiment=row["experiment"],
            deployment=Deployment(models[short_name(row["model"])], gpus[gpu_name(row["gpu"])], "bf16", int(row["tp"])),
            chunk_tokens=int(row["max_num_batched_tokens"]),
            sequences_max=int(row["max_num_seqs"] or 128),
            rates_per_second=tuple(float(rate) for rate in row["rate_req_s"].split("+")),
            system_tokens=float(row["system_prompt_tokens"]),
            question_tokens=float(row["question_tokens"]),
            completion_tokens=float(row["output_tokens"]),
            spec=row["workload_spec"],
            ttft_seconds=float(row["ttft_mean_ms"]) / 1e3,
            tpot_seconds=float(row["itl_mean_ms"]) / 1e3,
            e2e_seconds=float(row["e2e_mean_ms"]) / 1e3,
        )
        for row in _rows(path)
        if row["workload_spec"] != "unknown"
    ]


def read_gpu_prices(path: Path) -> dict[str, float]:
    """US dollars that an hour of a GPU costs its owner at a neocloud, by GPU."""
    return {gpu_name(row["gpu"]): float(row["tco_neocloud_usd_per_gpu_hr"]) for row in _rows(path)}
