"""An invoice against the ledger: every day and model gets one verdict."""

from router.reporting.reconcile import Usage, Verdict, reconcile

OURS = Usage("2026-11-20", "gpt", 10, 1000, 100, 200, 5_000_000_000)


def verdicts(theirs: list[Usage], ours: list[Usage] | None = None, tolerance: int = 0) -> list[Verdict]:
    return [line.verdict for line in reconcile([OURS] if ours is None else ours, theirs, tolerance)]


def test_the_same_is_matched() -> None:
    assert verdicts([OURS]) == [Verdict.MATCHED]


def test_a24_a_price_that_differs_is_told_with_the_difference() -> None:
    (line,) = reconcile([OURS], [OURS._replace(cost_nanousd=5_100_000_000)], 0)
    assert (line.verdict, line.difference_nanousd) == (Verdict.PRICE_DIFFERS, 100_000_000)
    assert verdicts([OURS._replace(cost_nanousd=5_004_000_000)], tolerance=5_000_000) == [Verdict.MATCHED]


def test_other_tokens_are_a_difference_of_usage() -> None:
    assert verdicts([OURS._replace(completion_tokens=201)]) == [Verdict.USAGE_DIFFERS]


def test_what_one_side_lacks_is_missing_there_or_here() -> None:
    other = OURS._replace(day="2026-11-21")
    assert verdicts([other]) == [Verdict.MISSING_THERE, Verdict.MISSING_HERE]


def test_what_the_export_does_not_say_is_not_compared() -> None:
    assert verdicts([Usage("2026-11-20", "gpt", prompt_tokens=1000)]) == [Verdict.MATCHED]


def test_rows_of_one_day_and_model_are_summed() -> None:
    half = OURS._replace(
        requests=5, prompt_tokens=500, cached_tokens=50, completion_tokens=100, cost_nanousd=2_500_000_000
    )
    assert verdicts([half, half]) == [Verdict.MATCHED]
