"""Writes `router/profiles.yaml`: the constants, the shapes and sheets they go with, and what each measured deployment adds."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import yaml

from load.calibration.fit import Fitted
from router.pricing.roofline import Gpu, ModelShape
from router.profiles import fit_name

HEADER = """\
# Engine profiles that come with jeton. Written by `{command}`; do not edit: the next fit writes it anew.
# What the numbers mean: router/pricing/roofline.py. How well they do: load/calibration/errors.md.
#
# Runs: NVIDIA aiconfigurator systems/silicon_sample.csv @095f58a (Apache-2.0), of SemiAnalysis InferenceX (Apache-2.0) and of
# NVIDIA's gap analysis. Shapes: aiconfigurator model_configs @095f58a (Apache-2.0), and config.json of the models' repositories.
# Sheets: aiconfigurator systems/*.yaml @095f58a (Apache-2.0), SemiAnalysis, vendors. usd_per_hour: owner's cost of a GPU-hour at
# a neocloud, SemiAnalysis InferenceX-app constants.ts @0c8d279 (first half of 2026).
"""


class _Flow(dict[str, Any]):
    """A mapping to be written on one line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _Flow, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)
)


def catalogue_text(
    about: Mapping[str, str],
    constants: Mapping[str, float],
    models: Mapping[str, ModelShape],
    gpus: Mapping[str, Gpu],
    gpu_usd_per_hour: Mapping[str, float],
    fitted: Sequence[Fitted],
) -> str:
    tables = {
        "about": dict(about),
        "constants": {name: float(f"{constants[name]:.4g}") for name in sorted(constants)},
        "models": {name: _Flow(_model(models[name])) for name in sorted(models)},
        "gpus": {name: _Flow(_gpu(gpus[name], gpu_usd_per_hour.get(name))) for name in sorted(gpus)},
        "fits": {
            name: _Flow(_fit(one))
            for name, one in sorted(((fit_name(one.deployment), one) for one in fitted), key=itemgetter(0))
        },
    }
    body = yaml.dump(tables, Dumper=_Dumper, sort_keys=False, width=200, allow_unicode=True)
    return HEADER.format(command=about["command"]) + "\n" + body


def _model(shape: ModelShape) -> dict[str, Any]:
    row = {name: getattr(shape, name) for name in ModelShape.__dataclass_fields__ if name != "name"}
    return {name: int(value) if isinstance(value, float) and value > 1 else value for name, value in row.items()}


def _gpu(gpu: Gpu, usd_per_hour: float | None) -> dict[str, Any]:
    row = {name: getattr(gpu, name) for name in Gpu.__dataclass_fields__ if name != "name"}
    row["tflops"] = dict(gpu.tflops)
    row["memory_gib"] = round(gpu.memory_gib, 1)
    return row | ({} if usd_per_hour is None else {"usd_per_hour": usd_per_hour})


def _fit(one: Fitted) -> dict[str, Any]:
    deployment, correction = one.deployment, one.correction
    return {
        "model": deployment.model.name,
        "quantization": deployment.quantization,
        "gpu": deployment.gpu.name,
        "gpus": deployment.gpus,
        "attention_groups": deployment.attention_groups,
        "engine": deployment.engine,
        "engine_version": deployment.engine_version,
        "points": one.points,
        "overhead": correction.overhead,
        "read": correction.read,
        "compute": correction.compute,
        "request": correction.request,
    }
