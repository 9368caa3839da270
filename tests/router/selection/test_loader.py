"""Policies by name: those that come with jeton, one's own, and every way to be wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from policies.quality_floor import QualityFloor
from router.selection.loader import load_policy


def test_a_policy_is_found_by_its_file_and_takes_its_parameters() -> None:
    assert load_policy("quality_floor", {"quality_min": 0.9}) == QualityFloor(quality_min=0.9)


def test_two_loads_share_no_state() -> None:
    assert load_policy("round_robin", {}) is not load_policy("round_robin", {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quality_flor", "did you mean 'quality_floor'?"),
        ("cheapest_of_all_time", "there are always_large, always_small"),
        ("", "there are always_large"),
        ("_keys", "there are always_large"),
        ("__init__", "there are always_large"),
        ("os.path", "there are always_large"),
        ("../policies/quality_floor", "there are always_large"),
        ("QualityFloor", "there are"),
        ("policies.quality_floor", "there are always_large"),
        ("no_such_package.module:Class", "cannot be imported"),
        ("policies.quality_floor:Cheapest", "has no policy Cheapest"),
        ("pathlib:Path", "has no policy Path"),
        ("pydantic:BaseModel", "has no policy BaseModel"),
        ("policies.quality_floor:", "package.module:Class"),
        (":QualityFloor", "package.module:Class"),
        ("policies..quality_floor:QualityFloor", "package.module:Class"),
        ("policies.quality_floor:QualityFloor()", "package.module:Class"),
        ("policies.quality_floor:QualityFloor:x", "package.module:Class"),
        (".quality_floor:QualityFloor", "package.module:Class"),
    ],
)
def test_a_name_that_leads_to_no_policy_is_refused_with_what_would_be_right(name: str, message: str) -> None:
    with pytest.raises(LookupError) as refused:
        load_policy(name, {})
    assert message in str(refused.value)
    assert "; " in str(refused.value)


def test_a_parameter_that_the_policy_does_not_take_is_refused() -> None:
    with pytest.raises(ValidationError, match="qualty_min"):
        load_policy("quality_floor", {"qualty_min": 0.9})


def test_a_policy_of_ones_own_is_found_by_its_dotted_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_routing").mkdir()
    (tmp_path / "acme_routing" / "friday.py").write_text(
        "from pydantic import BaseModel\n"
        "class Friday(BaseModel, frozen=True, extra='forbid'):\n"
        "    share: float = 0.5\n"
        "    def rank(self, request, candidates):\n"
        "        return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    policy = load_policy("acme_routing.friday:Friday", {"share": 0.1})
    assert type(policy).__name__ == "Friday"
    assert policy.rank(None, []) == []  # type: ignore[arg-type]


def test_a_policy_of_ones_own_that_does_not_import_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_broken.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(LookupError, match="a_module_that_is_not_there"):
        load_policy("acme_broken:Anything", {})
