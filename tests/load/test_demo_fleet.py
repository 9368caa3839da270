"""The demo's fleet is one: what is emulated is what jeton is told, at prices that stand in the project's price list."""

import json
import shutil
from pathlib import Path

import yaml

from load.demo.fleet import CLOUD_API_KEY, PRICES, places, read_fleet, replica_specs, router_config
from load.demo.run import MIX, PLAYGROUND
from router.access.keys import ApiKeys
from router.config_file import PEPPER, LoadedConfig, load
from router.selection.scope import Scopes

PROJECT = Path(__file__).parents[2]
API_KEYS = {tenant: f"sk-jeton-of-{tenant}" for tenant in (*MIX.tenants, PLAYGROUND)}


def loaded(directory: Path) -> LoadedConfig:
    fleet = read_fleet()
    urls = [f"http://127.0.0.1:{9000 + position}" for position in range(len(replica_specs(fleet, "key")))]
    config = router_config(fleet, urls, API_KEYS, "pepper", directory / "jeton.sqlite")
    (directory / "router.yaml").write_text(json.dumps(config))
    shutil.copy(PRICES, directory)
    return load(directory / "router.yaml", environ={PEPPER: "pepper", CLOUD_API_KEY: "key"})


def test_jeton_takes_the_configuration_without_a_warning(tmp_path: Path) -> None:
    assert loaded(tmp_path).warnings == ()


def test_every_replica_has_a_url_of_its_own_in_the_order_of_the_specs(tmp_path: Path) -> None:
    backends = loaded(tmp_path).backends
    urls = [replica.url for backend in backends for replica in backend.replicas]
    assert urls == [f"http://127.0.0.1:{9000 + position}" for position in range(len(urls))]
    served = [backend.served_model for backend in backends for _ in backend.replicas]
    assert served == [spec.model for spec in replica_specs(read_fleet(), "key")]
    assert [(place.pool, place.backend) for place in places(read_fleet())] == [(b.pool.name, b.name) for b in backends]


def test_the_emulated_engine_is_the_one_that_is_priced(tmp_path: Path) -> None:
    configuration = loaded(tmp_path)
    specs = iter(replica_specs(read_fleet(), "key"))
    for backend in configuration.backends:
        for _ in backend.replicas:
            spec = next(specs)
            if backend.profile:
                assert spec.profile == configuration.profiles[backend.profile]
            else:
                assert spec.api_key == "key"


def test_prices_are_rows_of_the_projects_price_list() -> None:
    demo, project = (
        yaml.safe_load(path.read_text())["prices"] for path in (PRICES, PROJECT / "deploy/config/prices.yaml")
    )
    assert demo == {name: project[name] for name in demo}


def test_what_the_traffic_asks_for_can_be_asked_for(tmp_path: Path) -> None:
    configuration = loaded(tmp_path)
    scopes = Scopes(configuration.config.aliases, configuration.backends)
    assert all(scopes.resolve(model).backends for model in MIX.models)


def test_every_tenant_has_a_budget_and_the_cloud_a_bound_for_what_it_holds(tmp_path: Path) -> None:
    configuration = loaded(tmp_path)
    [cloud] = [backend for backend in configuration.backends if backend.name == "cloud-large"]
    assert cloud.completion_tokens_max
    assert {tenant.name for tenant in configuration.config.tenants if tenant.budgets} == API_KEYS.keys()


def test_every_tenant_has_its_own_key_and_no_key_is_written_down(tmp_path: Path) -> None:
    keys = ApiKeys(loaded(tmp_path).config.tenants, b"pepper")
    for tenant, api_key in API_KEYS.items():
        assert keys.authenticate([(b"authorization", f"Bearer {api_key}".encode())]).tenant == tenant
        assert api_key not in (tmp_path / "router.yaml").read_text()
