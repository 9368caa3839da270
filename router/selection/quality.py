"""How good a tier's answer to a prompt is predicted to be, relative to the highest tier's; of its models unquantized: a
backend's is its tier's times its `quality_ratio`."""

from math import sqrt

from router.domain.decision import Prediction

ALIKE = 1.0


def tier_qualities(prediction: Prediction | None, tiers: int) -> list[float]:
    """Quality of each tier, weakest first, 0–1; the highest tier's is 1 by definition.

    The weakest tier's is the probability p that its answer is as good, less what the classifier does not know: of a prompt
    that it knows nothing of, one standard deviation of a yes or no, √(p(1 − p)), so that only the near certain stays high and
    the rest goes to the safe side; of one that it knows, nothing. Tiers between lie on the straight line. Where nothing is
    predicted (embeddings, audio) the tiers are alike.
    """
    if prediction is None or tiers < 2:
        return [ALIKE] * tiers
    suffices = prediction.small_suffices
    lowest = max(0.0, suffices - prediction.uncertainty * sqrt(suffices * (1.0 - suffices)))
    step = (ALIKE - lowest) / (tiers - 1)
    return [lowest + step * level for level in range(tiers - 1)] + [ALIKE]
