"""A claim compares two figures as it says, and judges by what is left."""

import pytest
from pydantic import ValidationError

from load.scenarios.claim import Claim, Form, Restated, written

FIGURES = {"a": {"usd": 3.0}, "b": {"usd": 4.0}}


def claim(form: str, published: tuple[float, float] | None = None, **more: str) -> Claim:
    against = {"against": "b.usd"} if form in ("ratio", "change") else {}
    return Claim.model_validate({"says": "s", "form": form, "of": "a.usd", "published": published, **against, **more})


def test_a_ratio_is_the_first_over_the_second_and_a_change_what_that_is_more_than_one() -> None:
    assert claim("ratio").figure(FIGURES) == pytest.approx(0.75)
    assert claim("change").figure(FIGURES) == pytest.approx(-0.25)
    assert claim("usd").figure(FIGURES) == 3.0


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="no case"):
        claim("usd").figure({"b": {}})
    with pytest.raises(KeyError, match="no figure usd; it has eur"):
        claim("usd").figure({"a": {"eur": 1.0}})


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [(-0.85, "agrees"), (-0.84, "agrees"), (-0.95, "more"), (-0.60, "less"), (0.10, "less")],
)
def test_savings_agree_where_what_is_left_is_about_the_same(figure: float, verdict: str) -> None:
    assert claim("change", (-0.85, -0.85)).judge(figure) == verdict


@pytest.mark.parametrize(("figure", "verdict"), [(3.6, "agrees"), (4.0, "agrees"), (3.0, "less"), (7.0, "more")])
def test_within_15_per_cent_of_a_range_is_agreement(figure: float, verdict: str) -> None:
    assert claim("ratio", (4, 6)).judge(figure) == verdict


def test_what_cannot_be_is_not_agreed_with_and_nothing_is_made_of_no_figure() -> None:
    assert claim("usd", (3, 3), impossible="it contradicts itself").judge(3.0) == "cannot be"
    assert claim("usd").judge(3.0) == "no figure"


def test_figures_are_written_with_the_digits_that_they_have() -> None:
    assert written(Form.USD, 365_000) == "$365,000"
    assert written(Form.USD, 0.000083) == "$0.000083"
    assert written(Form.CHANGE, -0.854) == "−85%"
    assert written(Form.RATIO, 2.634) == "2.63×"
    assert written(Form.RATIO, 132.4) == "132×"


def test_one_published_number_is_both_ends_of_its_range() -> None:
    restated = Restated.model_validate(
        {
            "title": "t", "source": "s", "why": "w", "cases": {"a": {"kind": "reckoned", "times": [1]}},
            "claims": [{"says": "x", "form": "usd", "of": "a.value", "published": 5}],
        }
    )  # fmt: skip
    assert restated.claims[0].published == (5, 5)


def test_a_comparison_without_its_second_figure_is_refused() -> None:
    with pytest.raises(ValidationError, match="against"):
        Claim.model_validate({"says": "s", "form": "ratio", "of": "a.usd"})
