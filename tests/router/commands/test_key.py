import pytest
import yaml
from click.testing import CliRunner

from router.__main__ import main
from router.access.keys import ApiKeys
from router.config.tenants import TenantConfig
from router.errors import Unauthenticated


def tenants(output: str) -> list[TenantConfig]:
    """The tenants of the snippet at the end of an output, as router.yaml would have them."""
    return [TenantConfig.model_validate(one) for one in yaml.safe_load(output[output.index("tenants:") :])["tenants"]]


def run(*arguments: str, stdin: str = "", pepper: str | None = "a pepper") -> tuple[str, str]:
    result = CliRunner().invoke(main, ["key", *arguments], input=stdin, env={"JETON_API_KEY_PEPPER": pepper})
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def test_a_new_key_is_printed_once_and_its_snippet_lets_it_in() -> None:
    out, err = run("--name", "laptop", "--tenant", "red")
    key = next(word for word in out.split() if word.startswith("sk-jeton-") and len(word) > 12)
    assert (out + err).count(key) == 1
    identity = ApiKeys(tenants(out), b"a pepper").authenticate([(b"authorization", b"Bearer " + key.encode())])
    assert (identity.tenant, identity.api_key_name) == ("red", "laptop")
    assert key.startswith(tenants(out)[0].api_keys[0].prefix)


def test_two_keys_are_two_keys() -> None:
    assert run()[0] != run()[0]


def test_a_key_on_standard_input_is_hashed_and_not_printed() -> None:
    out, err = run("--hash", stdin="swordfish-and-chips\n")
    assert "swordfish-and" not in out + err
    headers = [(b"x-api-key", b"swordfish-and-chips")]
    assert ApiKeys(tenants(out), b"a pepper").authenticate(headers).tenant == "default"


def test_the_hash_is_made_with_the_pepper() -> None:
    out, err = run("--hash", stdin="swordfish\n")
    assert err == ""
    try:
        ApiKeys(tenants(out), b"").authenticate([(b"x-api-key", b"swordfish")])
    except Unauthenticated:
        return
    raise AssertionError("a key hashed with a pepper was known without it")


def test_without_a_pepper_it_says_what_the_hash_is_good_for() -> None:
    assert "JETON_API_KEY_PEPPER is not set" in run(pepper=None)[1]


def test_no_key_on_standard_input_is_an_error() -> None:
    result = CliRunner().invoke(main, ["key", "--hash"], input="\n")
    assert result.exit_code == 1
    assert "there is no key on standard input" in result.stderr


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--tenant", "other", "has the name under which metrics count tenants that they have no room for"),
        ("--tenant", "shadow", "has the name under which shadows of requests are booked"),
        ("--tenant", "two words", "use letters, digits and"),
        ("--name", "", "use letters, digits and"),
    ],
)
def test_a_name_that_check_would_refuse_is_refused_at_once(option: str, name: str, said: str) -> None:
    result = CliRunner().invoke(main, ["key", option, name])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
    assert "sk-jeton-" not in result.output
