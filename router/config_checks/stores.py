"""Where things are kept: the ledger's database, and the Redis that the response cache needs."""

from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

from router.config.stores import CacheStore
from router.config_checks.reading import Reading
from router.config_shape import nearest_name
from router.config_source import Finding

# Of libpq's, those that say where PostgreSQL is and how it is spoken to. No secret among them.
POSTGRES_PARAMETERS = (
    "host", "hostaddr", "port", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "gssencmode", "channel_binding",
    "target_session_attrs", "load_balance_hosts", "passfile", "service", "connect_timeout",
)  # fmt: skip
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def check_ledger(reading: Reading) -> Iterator[Finding]:
    ledger, place = reading.config.ledger, ("ledger", "url")
    if ledger.url is None:
        return
    if "path" in ledger.model_fields_set:
        what = "`ledger` has a `path` and a `url`: it is in a file or in PostgreSQL"
        yield reading.source.finding(("ledger", "path"), what, "remove one of them", at_member=True)
    members = dict(parse_qsl(urlsplit(ledger.url).query, keep_blank_values=True))
    for name in members:
        if name not in POSTGRES_PARAMETERS:
            what = f"`{name}` is not a parameter that may stand in the ledger's url"
            remedy = nearest_name(name, POSTGRES_PARAMETERS)
            if name == "password":
                remedy = "put the password into the environment, and the variable's name into `password_env`"
            yield reading.source.finding(place, what, remedy)
    mode = members.get("sslmode", "")
    if mode and mode not in SSL_MODES:
        what = f"`sslmode={mode}` in the ledger's url is none that there is"
        yield reading.source.finding(place, what, nearest_name(mode, SSL_MODES))


def check_cache(reading: Reading) -> Iterator[Finding]:
    config = reading.config
    if config.cache is not None and config.cache.store is CacheStore.REDIS and config.redis is None:
        yield reading.source.finding(
            ("cache", "store"), "there is no `redis` to keep answers in", "add it, or use memory"
        )
