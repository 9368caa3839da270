"""How long answers are against what was expected: by application and category, bounded, and followed when they change."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain.decision import Choice, Decision, Prediction
from router.domain.request import Endpoint, InferenceRequest
from router.selection.explain import explain
from router.selection.lengths import ANSWERS_MAX, PRIOR_ANSWERS, RATIO_MAX, RATIO_MIN, Length, Lengths
from router.selection.lessons import Lessons

CODE = Prediction(0.5, 300.0, "code", 0.5)
CHAT = Prediction(0.5, 200.0, "chat", 0.5)
AskFor = Callable[..., InferenceRequest]
TOKENS = st.floats(1, 20_000)


def seen(lengths: Lengths, request: InferenceRequest, prediction: Prediction | None, tokens: int, times: int) -> None:
    for _ in range(times):
        lengths.observe(request, prediction, tokens)


def test_before_anything_was_seen_nothing_is_corrected(ask: AskFor) -> None:
    assert Lengths().of(ask(), CODE) is None


def test_an_answer_counts_as_one_beside_the_prior(ask: AskFor) -> None:
    lengths = Lengths()
    lengths.observe(ask(), None, 422)  # twice what is expected where nothing is predicted
    found = lengths.of(ask(), None)
    assert found is not None
    assert (found.ratio, found.answers) == (pytest.approx((2 + PRIOR_ANSWERS) / (1 + PRIOR_ANSWERS)), 1)


def test_a_category_is_learned_from_its_own_answers_and_begins_as_its_application(ask: AskFor) -> None:
    lengths = Lengths()
    seen(lengths, ask(), CODE, 30, 500)
    code = lengths.of(ask(), CODE)
    chat = lengths.of(ask(), CHAT)  # none was seen
    assert code is not None
    assert code.ratio == pytest.approx(0.1, rel=0.1)
    assert chat is not None
    assert code.ratio < chat.ratio < 0.15
    seen(lengths, ask(), CHAT, 200, 500)
    chat = lengths.of(ask(), CHAT)
    assert chat is not None
    assert chat.ratio == pytest.approx(1.0, rel=0.1)
    assert code.ratio == pytest.approx(0.1, rel=0.1)


def test_applications_do_not_learn_from_one_another(ask: AskFor) -> None:
    lengths = Lengths()
    seen(lengths, ask(), CODE, 30, 50)
    assert lengths.of(replace(ask(), tenant="other"), CODE) is None
    assert lengths.of(replace(ask(), api_key_name="other"), CODE) is None


def test_a_changed_application_is_followed(ask: AskFor) -> None:
    lengths = Lengths()
    seen(lengths, ask(), CODE, 30, 1000)
    seen(lengths, ask(), CODE, 600, 3 * int(ANSWERS_MAX))
    found = lengths.of(ask(), CODE)
    assert found is not None
    assert found.ratio == pytest.approx(2.0, rel=0.1)


def test_what_the_clients_bound_cuts_is_compared_as_it_was_cut(ask: AskFor) -> None:
    lengths = Lengths()
    seen(lengths, ask(completion_tokens_max=20), CODE, 20, 100)
    found = lengths.of(ask(), CODE)
    assert found is not None
    assert found.ratio == 1.0


def test_where_nothing_is_generated_nothing_is_learned(ask: AskFor) -> None:
    lengths = Lengths()
    lengths.observe(ask(endpoint=Endpoint.EMBEDDINGS), None, 5)
    lengths.observe(ask(), CODE, 0)
    assert lengths.of(ask(endpoint=Endpoint.EMBEDDINGS), None) is None


def test_applications_that_were_silent_longest_are_forgotten(ask: AskFor) -> None:
    lengths = Lengths(remembered_max=4)
    first, second, third = (replace(ask(), tenant=name) for name in ("a", "b", "c"))
    for request in (first, second, first, third):
        lengths.observe(request, CODE, 30)
    assert lengths.of(second, CODE) is None
    assert lengths.of(first, CODE) is not None
    assert lengths.of(third, CODE) is not None


@given(st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=50), st.floats(RATIO_MIN, RATIO_MAX))
def test_the_ratio_is_between_the_prior_and_what_was_seen_and_within_bounds(
    answers: list[tuple[float, float]], prior: float
) -> None:
    length = Length()
    for expected, real in answers:
        length.observe(expected, real, prior)
    ratios = [real / expected for expected, real in answers]
    assert RATIO_MIN <= length.ratio <= RATIO_MAX
    assert min(*ratios, prior) * (1 - 1e-9) <= max(length.ratio, RATIO_MIN)
    assert length.ratio <= max(*ratios, prior) * (1 + 1e-9)
    assert length.answers <= min(len(answers), ANSWERS_MAX)


def test_candidates_are_quoted_for_the_answer_that_is_usual_and_explain_says_so(fleet: Any, ask: AskFor) -> None:
    lessons = Lessons(fleet.drifts)
    finder = fleet.finder()
    before, _ = fleet.find(ask(), CODE, finder=finder)
    seen(finder.lessons.lengths, ask(), CODE, 30, 500)
    after, _ = fleet.find(ask(), CODE, finder=finder)
    for one, then in zip(before, after, strict=True):
        assert one.completion_tokens == 300.0
        assert then.completion_tokens == pytest.approx(30.0, rel=0.2)
        assert then.quote.standard_nanousd < one.quote.standard_nanousd
    bounded, _ = fleet.find(ask(completion_tokens_max=12), CODE, finder=finder)
    assert {one.completion_tokens for one in bounded} == {12.0}
    decision = Decision("test", [Choice(one, "so") for one in after], [], CODE, "edge-large")
    told = explain(ask(), decision, finder.lessons)
    assert told["prediction"]["completion_tokens"] == 300.0
    assert told["length_correction"]["ratio"] == pytest.approx(0.1, rel=0.2)
    assert told["length_correction"]["answers"] == pytest.approx(ANSWERS_MAX * (1 - (1 - 1 / ANSWERS_MAX) ** 500))
    assert explain(ask(), decision, lessons)["length_correction"] is None
