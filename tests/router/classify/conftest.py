from pathlib import Path

import pytest

from router.classify.classifier import Classifier
from router.classify.outcomes import PUBLIC_PAIRS, Outcome
from router.classify.training import fit
from router.commands.outcome_files import read_outcomes

OUTCOMES = Path(__file__).parent / "data" / "outcomes.jsonl.gz"


@pytest.fixture(scope="session")
def outcomes() -> list[Outcome]:
    """Real rows that the shipped classifier has not seen."""
    return read_outcomes(OUTCOMES)


@pytest.fixture(scope="session")
def small_classifier(outcomes: list[Outcome]) -> Classifier:
    """Trained on the small file of these tests, in about a second."""
    return Classifier(fit(outcomes, PUBLIC_PAIRS))
