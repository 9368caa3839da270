"""The learned half: linear models over hashed words and word pairs, and how near a prompt is to what taught them.

Arrays in, numbers out. How the arrays come about is `training.py`'s; what is made of the numbers, `classifier.py`'s.
"""

import sys
from array import array
from dataclasses import dataclass, field, fields
from math import exp, sqrt
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from router.classify.words import word_buckets

Floats = npt.NDArray[np.float32]

# Buckets of words and pairs together; buckets of words alone, for nearness.
FEATURE_BITS = 17
KIND_BITS = 11

# A row of the clusters is kept as one large integer, a lane of 32 bits for each cluster, in units of 2⁻²⁰: adding two rows is
# one addition, of a tenth of a microsecond. WORDS_MAX rows of at most CLUSTER_MAX fill a lane without running over.
LANE_BYTES = 4
LANE_UNITS = 1 << 20
CLUSTER_MAX = 12.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """gain: score of the large tier less that of the small one, relative to its kind of prompt.
    log_tokens: natural logarithm of the completion's length. similarity: cosine to the nearest cluster of training prompts,
    in units of what is usual for a prompt of that kind; from 0, sometimes above 1."""

    gain: float
    log_tokens: float
    similarity: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns scores into units and probabilities, fitted on prompts that the models had not seen.

    points_mean, points_scale: mean and standard deviation of the rules' points. gain_scale: standard deviation of the gain.
    small_suffices: logistic curve (intercept, slope), from the large tier's advantage to P(small suffices).
    strange_similarity, known_similarity: medians for kinds of prompt that are unknown and known; nearness goes from 0 at the
    first to 1 at the second.
    tokens_factor: mean of actual ÷ predicted tokens, since the exponential of a mean logarithm is too low (Duan's
    smearing estimate, 1983).
    """

    points_mean: float
    points_scale: float
    gain_scale: float
    small_suffices: tuple[float, float]
    strange_similarity: float
    known_similarity: float
    tokens_factor: float


@dataclass(frozen=True, slots=True)
class LearnedModel:
    """weights: (2^FEATURE_BITS, 2), columns gain and log tokens, without intercepts. log_tokens_mean: the intercept of the
    latter. clusters: (2^KIND_BITS, number), columns of unit length ÷ the usual similarity of their kind."""

    weights: Floats
    clusters: Floats
    log_tokens_mean: float
    calibration: Calibration
    _gains: "array[float]" = field(init=False, repr=False, compare=False)
    _log_tokens: "array[float]" = field(init=False, repr=False, compare=False)
    _cluster_rows: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """The same numbers where Python reads them quickest. Raises ValueError for clusters that no training makes."""
        if not (np.isfinite(self.clusters).all() and self.clusters.min() >= 0 and self.clusters.max() <= CLUSTER_MAX):
            raise ValueError(f"clusters outside 0..{CLUSTER_MAX:g}")
        gains, log_tokens = self.weights.T.tolist()
        object.__setattr__(self, "_gains", array("f", gains))
        object.__setattr__(self, "_log_tokens", array("f", log_tokens))
        lanes = np.rint(self.clusters * LANE_UNITS).astype(np.uint32)
        object.__setattr__(self, "_cluster_rows", [int.from_bytes(row.tobytes(), sys.byteorder) for row in lanes])

    def estimate(self, found: list[bytes], distinct: set[bytes]) -> Estimate:
        """What the models say of these words, `distinct` without repetition; for none, the intercepts and similarity 0."""
        if not found:
            return Estimate(0.0, self.log_tokens_mean, 0.0)
        kinds, features = word_buckets(found, distinct, KIND_BITS, FEATURE_BITS)
        if isinstance(features, list):
            gain: float = sum(map(self._gains.__getitem__, features))
            log_tokens: float = sum(map(self._log_tokens.__getitem__, features))
        else:
            gain, log_tokens = np.add.reduce(self.weights[features]).tolist()
        rows = map(self._cluster_rows.__getitem__, kinds.tolist() if isinstance(kinds, np.ndarray) else kinds)
        lanes = sum(rows).to_bytes(LANE_BYTES * self.clusters.shape[1], sys.byteorder)
        similarity = max(memoryview(lanes).cast("I")) / LANE_UNITS
        # Vectors have unit length: every one of n distinct features weighs 1/√n.
        feature_length, kind_length = sqrt(len(features)), sqrt(len(kinds))
        return Estimate(
            gain / feature_length, self.log_tokens_mean + log_tokens / feature_length, similarity / kind_length
        )

    def save(self, path: Path) -> None:
        """Half precision and compression make the file small; the same arrays make the same bytes."""
        arrays: dict[str, Any] = {
            "weights": self.weights.astype(np.float16),
            "clusters": self.clusters.astype(np.float16),
            "log_tokens_mean": np.float64(self.log_tokens_mean),
        }
        for one in fields(Calibration):
            arrays[one.name] = np.array(getattr(self.calibration, one.name), np.float64)
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises ValueError when the file is not one that `save` wrote."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                weights = arrays["weights"].astype(np.float32)
                clusters = arrays["clusters"].astype(np.float32)
                log_tokens_mean = float(arrays["log_tokens_mean"])
                calibration = Calibration(
                    points_mean=float(arrays["points_mean"]),
                    points_scale=float(arrays["points_scale"]),
                    gain_scale=float(arrays["gain_scale"]),
                    small_suffices=_curve(arrays["small_suffices"]),
                    strange_similarity=float(arrays["strange_similarity"]),
                    known_similarity=float(arrays["known_similarity"]),
                    tokens_factor=float(arrays["tokens_factor"]),
                )
        except (KeyError, ValueError, TypeError, AttributeError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path} is not a classifier: {error}") from error
        if weights.shape != (1 << FEATURE_BITS, 2) or clusters.ndim != 2 or len(clusters) != 1 << KIND_BITS:
            raise ValueError(f"{path} holds arrays of shape {weights.shape} and {clusters.shape}: train it anew")
        return cls(weights, clusters, log_tokens_mean, calibration)


def nearness(calibration: Calibration, similarity: float) -> float:
    """0 (as unlike as unknown kinds of prompt usually are) to 1 (as like as known kinds usually are)."""
    span = calibration.known_similarity - calibration.strange_similarity
    return min(1.0, max(0.0, (similarity - calibration.strange_similarity) / span))


def logistic(curve: tuple[float, float], value: float) -> float:
    """1 / (1 + e^-(intercept + slope · value)), without overflow."""
    intercept, slope = curve
    return 1 / (1 + exp(-max(-50.0, min(50.0, intercept + slope * value))))


def _curve(array: npt.NDArray[np.float64]) -> tuple[float, float]:
    intercept, slope = array.tolist()
    return float(intercept), float(slope)
