"""The engine profiles that come with jeton: `profiles.yaml`, read once, and found by model, GPU and quantization, or by name.

A deployment that was measured gets what its own runs say of it; any other the roofline of its model's shape and its GPU's
sheet. The file is written by `jeton profile fit`; the formulas are `pricing/roofline.py`'s.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from router.pricing.profile import EngineProfile
from router.pricing.roofline import UNCORRECTED, Correction, Deployment, Gpu, ModelShape, derive

SHIPPED = Path(__file__).with_name("profiles.yaml")

# vLLM's own defaults behind an API server (engine/arg_utils.py, get_batch_defaults): 8,192 tokens a step and 1,024 sequences on
# GPUs of 70 GiB and more that are no A100, else 2,048 and 256.
LARGE_GPU_GIB = 70
LARGE_DEFAULTS = {"chunk_tokens": 8192, "sequences_max": 1024}
SMALL_DEFAULTS = {"chunk_tokens": 2048, "sequences_max": 256}


@dataclass(frozen=True, slots=True)
class Fit:
    """What the runs of one deployment said. points: how many there were; 0: none, and the shared constants speak for it."""

    points: int = 0
    correction: Correction = UNCORRECTED
    engine_version: str = ""


UNMEASURED = Fit()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """about: date, command and version of the data, for people. gpu_usd_per_hour: owner's cost, by GPU, where it is known.
    fits: by name, see `fit_name`."""

    about: Mapping[str, str]
    constants: Mapping[str, float]
    models: Mapping[str, ModelShape]
    gpus: Mapping[str, Gpu]
    gpu_usd_per_hour: Mapping[str, float]
    fits: Mapping[str, Fit]
    deployments: Mapping[str, Deployment]

    def deployment(
        self, model: str, gpu: str, quantization: str, gpus: int = 1, engine: str = "vllm", engine_version: str = ""
    ) -> Deployment:
        """Raises LookupError for a model or GPU that the catalogue does not have; the message names the nearest."""
        if model not in self.models:
            raise LookupError(f"there is no shape of a model `{model}`; {_nearest(model, self.models)}")
        if gpu not in self.gpus:
            raise LookupError(f"there is no sheet of a GPU `{gpu}`; {_nearest(gpu, self.gpus)}")
        if model.startswith("gpt-oss") and quantization in ("fp4", "nvfp4"):
            quantization = "mxfp4"  # there is no other
        return Deployment(self.models[model], self.gpus[gpu], quantization, gpus, engine, engine_version)

    def fit_of(self, deployment: Deployment) -> Fit:
        return self.fits.get(fit_name(deployment), UNMEASURED)

    def profile(self, deployment: Deployment, **limits: int) -> EngineProfile:
        """limits: `chunk_tokens`, `sequences_max`, `sequences_target` where they are not vLLM's defaults. Raises ValueError
        when the model does not fit, or the quantization is unknown."""
        gpu, own = deployment.gpu, self.fit_of(deployment)
        if not deployment.engine_version:  # a correction goes with the version that its runs had
            deployment = replace(deployment, engine_version=own.engine_version)
        is_large = gpu.memory_gib >= LARGE_GPU_GIB and not gpu.name.startswith("a100")
        defaults = LARGE_DEFAULTS if is_large else SMALL_DEFAULTS
        return derive(deployment, self.constants, own.correction, **(defaults | limits))

    def named(self, name: str) -> EngineProfile:
        """A measured deployment's profile. Raises LookupError for a name that is not in `fits`."""
        if name not in self.deployments:
            raise LookupError(f"there is no profile `{name}`; {_nearest(name, self.deployments)}")
        return self.profile(self.deployments[name])


def fit_name(deployment: Deployment) -> str:
    """`llama-3.1-70b-fp8-h200`; with `-x2` on two GPUs, `-dp2` with attention in two groups, `-trtllm` on another engine."""
    parts = [deployment.model.name, deployment.quantization, deployment.gpu.name]
    if deployment.gpus > 1:
        parts.append(f"x{deployment.gpus}")
    if deployment.attention_groups > 1:
        parts.append(f"dp{deployment.attention_groups}")
    if deployment.engine != "vllm":
        parts.append(deployment.engine)
    return "-".join(parts)


@lru_cache(maxsize=1)
def shipped() -> Catalogue:
    return read_catalogue(SHIPPED)


def read_catalogue(path: Path) -> Catalogue:
    """Raises OSError when there is no such file; KeyError or ValueError when it is not what `jeton profile fit` writes."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    tables: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    models = {name: ModelShape(name=name, **row) for name, row in tables["models"].items()}
    prices = {name: row.pop("usd_per_hour") for name, row in tables["gpus"].items() if "usd_per_hour" in row}
    gpus = {name: Gpu(name=name, **row) for name, row in tables["gpus"].items()}
    fits, deployments = {}, {}
    for name, row in tables["fits"].items():
        fits[name] = Fit(
            points=row["points"],
            correction=Correction(row["overhead"], row["read"], row["compute"], row["request"]),
            engine_version=row["engine_version"],
        )
        deployments[name] = Deployment(
            model=models[row["model"]],
            gpu=gpus[row["gpu"]],
            quantization=row["quantization"],
            gpus=row["gpus"],
            engine=row["engine"],
            engine_version=row["engine_version"],
            attention_groups=row["attention_groups"],
        )
    return Catalogue(
        about=tables["about"],
        constants=tables["constants"],
        models=models,
        gpus=gpus,
        gpu_usd_per_hour=prices,
        fits=fits,
        deployments=deployments,
    )


def _nearest(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else f"there are {', '.join(known)}"
