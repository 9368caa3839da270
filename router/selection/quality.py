"""How good a tier's answer to a prompt is predicted to be, relative to the highest tier's."""

from router.domain.decision import Prediction

ALIKE = 1.0


def tier_qualities(prediction: Prediction | None, tiers: int) -> list[float]:
    """Quality of each tier, weakest first, 0–1; the highest tier's is 1 by definition.

    The weakest tier's is the probability that its answer is as good, less in proportion to what the classifier does not know
    of such prompts: one that it knows nothing of goes to the safe side. Tiers between lie on the straight line. Where nothing
    is predicted (embeddings, audio) the tiers are alike.
    """
    if prediction is None or tiers < 2:
        return [ALIKE] * tiers
    lowest = prediction.small_suffices * (1.0 - prediction.uncertainty)
    step = (ALIKE - lowest) / (tiers - 1)
    return [lowest + step * level for level in range(tiers - 1)] + [ALIKE]
