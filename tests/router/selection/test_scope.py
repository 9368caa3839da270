"""What a model name stands for, and what is said of one that stands for nothing."""

import pytest

from router.config.routing import AliasConfig
from router.domain.fleet import Backend, Billing, EngineKind, Pool, PoolKind
from router.errors import Forbidden, UnknownModel
from router.selection.scope import Scopes

EDGE = Pool("edge", PoolKind.EDGE, Billing.LEASED)
CLOUD = Pool("cloud", PoolKind.CLOUD, Billing.METERED)


def backend(name: str, model: str, tier: str, pool: Pool = EDGE) -> Backend:
    return Backend(name, pool, model, model, tier, "fp8", EngineKind.VLLM, 8192, frozenset(), "p", "h", ())


BACKENDS = (
    backend("edge-small", "llama-8b", "small"),
    backend("edge-large", "llama-70b", "large"),
    backend("cloud-small", "llama-8b", "small", CLOUD),
)
SCOPES = Scopes(
    {
        "auto": AliasConfig(),
        "chat-small": AliasConfig(tiers=("small",)),
        "cloud-only": AliasConfig(pools=("cloud",)),
        "one": AliasConfig(backends=("edge-large",)),
        "llamas": AliasConfig(models=("llama-8b", "llama-70b"), pools=("edge",)),
        "nothing": AliasConfig(tiers=("small",), backends=("edge-large",)),
    },
    BACKENDS,
)


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("auto", ["edge-small", "edge-large", "cloud-small"]),
        ("chat-small", ["edge-small", "cloud-small"]),
        ("cloud-only", ["cloud-small"]),
        ("one", ["edge-large"]),
        ("llamas", ["edge-small", "edge-large"]),
        ("edge-large", ["edge-large"]),
        ("llama-8b", ["edge-small", "cloud-small"]),
    ],
)
def test_a_name_stands_for_its_backends(model: str, names: list[str]) -> None:
    scope = SCOPES.resolve(model)
    assert scope.model == model
    assert [backend.name for backend in scope.backends] == names


def test_an_alias_goes_before_a_backend_and_a_backend_before_a_model() -> None:
    backends = (backend("llama", "other", "small"), backend("b", "llama", "large"))
    assert [found.name for found in Scopes({}, backends).resolve("llama").backends] == ["llama"]
    aliased = Scopes({"llama": AliasConfig(tiers=("large",))}, backends)
    assert [found.name for found in aliased.resolve("llama").backends] == ["b"]


@pytest.mark.parametrize(
    ("model", "nearest"),
    [("llama-8", "llama-8b"), ("LLAMA-70B", "llama-70b"), ("chat-smal", "chat-small"), ("edge-larg", "edge-large")],
)
def test_an_unknown_model_lists_the_nearest_names(model: str, nearest: str) -> None:
    with pytest.raises(UnknownModel) as refused:
        SCOPES.resolve(model)
    assert f"Nearest: {nearest}" in refused.value.message
    assert refused.value.param == "model"


@pytest.mark.parametrize("model", ["", "gpt-99-omega", "nothing", "AUTO "])
def test_a_name_that_stands_for_nothing_is_unknown(model: str) -> None:
    with pytest.raises(UnknownModel):
        SCOPES.resolve(model)


def test_a_tenant_may_ask_for_its_models_only_and_is_told_of_no_others() -> None:
    assert SCOPES.resolve("chat-small", ("chat-small",)).model == "chat-small"
    with pytest.raises(Forbidden):
        SCOPES.resolve("auto", ("chat-small",))
    with pytest.raises(UnknownModel) as refused:
        SCOPES.resolve("llama-8", ("chat-small",))
    assert "llama-8b" not in refused.value.message


def test_a_name_of_a_megabyte_is_neither_compared_nor_repeated() -> None:
    with pytest.raises(UnknownModel) as refused:
        SCOPES.resolve("llama" * 200_000)
    assert len(refused.value.message) < 300
