"""The contract of every policy in `policies/`, found by itself: a new file is held to it without being named here."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import policies
from router.config_file import POLICY_NEEDS
from router.domain.decision import Candidate
from router.domain.fleet import Backend, Billing, EngineKind, Load, Pool, PoolKind, Replica
from router.domain.request import Capability, Endpoint, InferenceRequest, Prompt
from router.selection.loader import load_policy, policy_class, policy_names

NAMES = sorted(file.stem for file in Path(policies.__path__[0]).glob("*.py") if not file.stem.startswith("_"))

POOLS = (
    Pool("edge", PoolKind.EDGE, Billing.LEASED, "eu", 0.005),
    Pool("cloud", PoolKind.CLOUD, Billing.METERED, "us", 0.08),
)
SECONDS = st.floats(0, 1e6)
MONEY = st.integers(0, 10**15)
COUNT = st.integers(0, 10**6)

requests = st.builds(
    InferenceRequest,
    request_id=st.just("r1"),
    tenant=st.just("acme"),
    api_key_name=st.just("key"),
    endpoint=st.sampled_from(Endpoint),
    model=st.just("auto"),
    is_streaming=st.booleans(),
    prompt=st.builds(Prompt, text=st.text(max_size=20), tokens_estimate=COUNT),
    needs=st.frozensets(st.sampled_from(Capability), max_size=3),
    completion_tokens_max=st.none() | COUNT,
    choices=st.integers(1, 8),
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Candidate]:
    """Any candidates: one to four tiers, some replicas alike in all but their id."""
    candidates: list[Candidate] = []
    for number in range(draw(st.integers(0, 4))):
        level = draw(st.integers(0, 3))
        replicas = tuple(Replica(f"b{number}/{n}", f"b{number}", "http://h:1") for n in range(draw(st.integers(1, 3))))
        backend = Backend(
            f"b{number}", draw(st.sampled_from(POOLS)), "m", "m", f"tier-{level}", "fp8", EngineKind.VLLM, 8192,
            frozenset(), "p", "h", replicas,
        )  # fmt: skip
        forecast = st.tuples(
            st.builds(Load, COUNT, COUNT, COUNT, COUNT), SECONDS, SECONDS, st.floats(0, 1e6), st.floats(0, 1),
            MONEY, MONEY, MONEY, st.just(level), MONEY, st.integers(0, 10**6), st.floats(0, 20), st.booleans(), MONEY,
            SECONDS, SECONDS,
        )  # fmt: skip
        shared = draw(st.none() | forecast)
        candidates += [Candidate(backend, replica, *(shared or draw(forecast))) for replica in replicas]
    return draw(st.permutations(candidates))


def test_every_file_is_a_policy_and_the_loader_knows_it() -> None:
    assert policy_names() == NAMES
    assert "quality_floor" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_file_holds_one_class_of_its_name_with_a_docstring_and_no_state_of_its_module(name: str) -> None:
    policy = policy_class(name)
    assert policy.__name__.lower() == name.replace("_", "")
    assert policy.__doc__
    assert policy.model_config.get("frozen")
    assert policy.model_config.get("extra") == "forbid"


@pytest.mark.parametrize("name", NAMES)
def test_it_works_without_parameters_and_refuses_unknown_ones(name: str) -> None:
    load_policy(name, {})
    with pytest.raises(ValidationError):
        load_policy(name, {"no_such_parameter": 1})


@pytest.mark.parametrize("name", NAMES)
def test_a11_it_says_what_it_decides_on_and_with_which_reasons(name: str) -> None:
    policy = load_policy(name, {})
    needs: frozenset[str] = policy.needs  # type: ignore[attr-defined]
    reasons: Sequence[str] = policy.reasons  # type: ignore[attr-defined]
    assert needs <= POLICY_NEEDS
    assert 1 <= len(set(reasons)) == len(reasons) <= 8
    for reason in reasons:  # it becomes a label, and a header's value
        assert reason.isascii()
        assert reason.isprintable()
        assert reason == reason.strip()
        assert 0 < len(reason) <= 40


@pytest.mark.parametrize("name", NAMES)
@given(request=requests, candidates=fleets())
def test_it_ranks_every_candidate_once_with_a_reason_of_its_vocabulary(
    name: str, request: InferenceRequest, candidates: list[Candidate]
) -> None:
    policy = load_policy(name, {})
    before = list(candidates)
    ranking = policy.rank(request, candidates)
    assert candidates == before
    assert sorted(id(choice.candidate) for choice in ranking) == sorted(map(id, candidates))
    assert {choice.reason for choice in ranking} <= set(policy.reasons)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMES)
@given(request=requests, candidates=fleets(), data=st.data())
def test_it_depends_on_nothing_but_the_candidates_not_even_their_order(
    name: str, request: InferenceRequest, candidates: list[Candidate], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(candidates))
    one, other = load_policy(name, {}), load_policy(name, {})
    for _ in range(3):  # a state on the instance goes the same way from the same start
        assert one.rank(request, candidates) == other.rank(request, tuple(shuffled))
