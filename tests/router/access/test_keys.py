import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.access.keys import ApiKeys, Identity, api_key_hash, api_key_prefix, new_api_key
from router.config.tenants import ApiKeyConfig, TenantConfig
from router.errors import Unauthenticated

PEPPER = b"a pepper for tests"
KEY = new_api_key()
OTHER = new_api_key()


def tenant(name: str, key: str, models: tuple[str, ...] = (), requests_per_minute: int | None = None) -> TenantConfig:
    api_key = ApiKeyConfig(name="laptop", hash=api_key_hash(key, PEPPER), prefix=api_key_prefix(key))
    return TenantConfig(name=name, api_keys=(api_key,), models=models, requests_per_minute=requests_per_minute)


@pytest.fixture
def api_keys() -> ApiKeys:
    return ApiKeys([tenant("red", KEY, models=("auto",), requests_per_minute=90), tenant("blue", OTHER)], PEPPER)


def bearer(key: str) -> tuple[bytes, bytes]:
    return (b"authorization", b"Bearer " + key.encode())


def test_a_bearer_key_is_its_tenant(api_keys: ApiKeys) -> None:
    assert api_keys.authenticate([(b"host", b"jeton"), bearer(KEY)]) == Identity("red", "laptop", ("auto",), 90)
    assert api_keys.authenticate([bearer(OTHER)]) == Identity("blue", "laptop")


def test_anthropic_clients_send_the_key_in_x_api_key(api_keys: ApiKeys) -> None:
    assert api_keys.authenticate([(b"x-api-key", KEY.encode())]).tenant == "red"


def test_the_same_key_in_both_headers_is_one_key(api_keys: ApiKeys) -> None:
    assert api_keys.authenticate([bearer(KEY), (b"x-api-key", KEY.encode())]).tenant == "red"


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER ", b"Bearer  "])
def test_the_scheme_is_case_insensitive(api_keys: ApiKeys, scheme: bytes) -> None:
    assert api_keys.authenticate([(b"authorization", scheme + KEY.encode())]).tenant == "red"


B55 = {
    "no header": [],
    "injection": [bearer("' OR '1'='1")],
    "20 characters of a real key": [bearer(KEY[:20])],
    "all but one character": [bearer(KEY[:-1])],
    "one character more": [bearer(KEY + "A")],
    "another case": [bearer(KEY.swapcase())],
    "empty": [(b"authorization", b"")],
    "scheme alone": [(b"authorization", b"Bearer")],
    "empty key": [(b"authorization", b"Bearer ")],
    "spaces": [(b"authorization", b"Bearer    ")],
    "empty x-api-key": [(b"x-api-key", b"")],
    "bare key": [(b"authorization", KEY.encode())],
    "Basic": [(b"authorization", b"Basic " + KEY.encode())],
    "two Authorization headers": [bearer(KEY), bearer(OTHER)],
    "the same Authorization header twice": [bearer(KEY), bearer(KEY)],
    "two x-api-key headers": [(b"x-api-key", KEY.encode()), (b"x-api-key", KEY.encode())],
    "two different keys": [bearer(KEY), (b"x-api-key", OTHER.encode())],
    "a right x-api-key beside a wrong scheme": [(b"authorization", b"Basic eA=="), (b"x-api-key", KEY.encode())],
    "a right x-api-key beside an empty Authorization": [(b"authorization", b""), (b"x-api-key", KEY.encode())],
    "two keys in one header": [bearer(f"{KEY},{OTHER}")],
    "its hash": [bearer(api_key_hash(KEY, PEPPER))],
    "its prefix": [bearer(api_key_prefix(KEY))],
    "bytes that are no text": [(b"authorization", b"Bearer \xff\x00")],
    "64 KB": [(b"authorization", b"Bearer " + b"k" * 65536)],
}


@pytest.mark.parametrize("headers", B55.values(), ids=B55.keys())
def test_b55_what_is_not_exactly_one_known_key_is_refused(
    api_keys: ApiKeys, headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        api_keys.authenticate(headers)
    assert (refusal.value.status, refusal.value.code) == (401, "invalid_api_key")
    said = repr((refusal.value.message, refusal.value.detail, refusal.value.args))
    assert KEY[9:20] not in said
    assert OTHER[9:20] not in said


@given(key=st.binary(max_size=600).filter(lambda key: key not in (KEY.encode(), OTHER.encode())))
def test_no_other_bytes_are_a_key(key: bytes) -> None:
    api_keys = ApiKeys([tenant("red", KEY), tenant("blue", OTHER)], PEPPER)
    for headers in ([(b"authorization", b"Bearer " + key)], [(b"x-api-key", key)]):
        if key.strip(b" ") in (KEY.encode(), OTHER.encode()):
            continue
        with pytest.raises(Unauthenticated):
            api_keys.authenticate(headers)


def test_without_tenants_nobody_is_let_in() -> None:
    for headers in ([], [bearer("")], [bearer(KEY)]):
        with pytest.raises(Unauthenticated):
            ApiKeys([], b"").authenticate(headers)


def test_another_pepper_knows_none_of_the_keys() -> None:
    with pytest.raises(Unauthenticated):
        ApiKeys([tenant("red", KEY)], b"another").authenticate([bearer(KEY)])


def test_b56_a_wrong_key_takes_the_same_path_as_a_right_one_and_leaves_nothing(
    api_keys: ApiKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[bytes] = []
    digest = hmac.digest

    def counted(pepper: bytes, key: bytes, algorithm: str) -> bytes:
        hashed.append(key)
        return digest(pepper, key, algorithm)

    monkeypatch.setattr(hmac, "digest", counted)
    before = dict(api_keys._identities)
    for number in range(10_000):
        with pytest.raises(Unauthenticated):
            api_keys.authenticate([bearer(f"{KEY[:-5]}{number:05d}")])
    api_keys.authenticate([bearer(KEY)])
    assert len(hashed) == 10_001, "one HMAC each, however near the key was"
    assert api_keys._identities == before


def test_the_hash_is_hmac_sha256_of_the_key_under_the_pepper() -> None:
    expected = hmac.new(PEPPER, KEY.encode(), hashlib.sha256).hexdigest()
    assert api_key_hash(KEY, PEPPER) == f"hmac-sha256:{expected}"


def test_new_keys_differ_and_carry_256_random_bits() -> None:
    keys = {new_api_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("sk-jeton-") and len(key) == len("sk-jeton-") + 43 for key in keys)


@given(st.text(max_size=80))
def test_a_prefix_never_shows_more_than_a_third_of_a_key(key: str) -> None:
    prefix = api_key_prefix(key)
    assert key.startswith(prefix)
    assert len(prefix) <= min(12, len(key) // 3)
