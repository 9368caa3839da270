"""Secrets are where they belong: set in the environment or in a file, and not sent or needed where others listen."""

from collections.abc import Iterator

from router.config_checks.hosts import is_beyond_loopback, is_private
from router.config_checks.reading import Reading
from router.config_source import Finding

# Who listens there takes the port of every address of the machine.
EVERYWHERE = frozenset({"0.0.0.0", "::"})


def check_secrets(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        for position, replica in enumerate(backend.replicas):
            name = replica.api_key_env
            if name is not None and not reading.environ.get(name):
                what = f"the environment variable {name}, the API key of backend `{backend.name}`, is not set"
                remedy = f"export {name}=…, or remove `api_key_env` if the backend needs no key"
                yield reading.source.finding((*place, "replicas", position, "api_key_env"), what, remedy)
            path = replica.api_key_file
            if path is not None and name is not None:
                what = f"`{backend.name}` has its API key from a file and from the environment"
                yield reading.source.finding((*place, "replicas", position, "api_key_file"), what, "keep one of them")
            elif path is not None and reading.key_files[path].problem:
                remedy = "put the key there, in one line, or remove `api_key_file` if the backend needs no key"
                yield reading.source.finding(
                    (*place, "replicas", position, "api_key_file"), reading.key_files[path].problem, remedy
                )
        name = backend.discovery.api_key_env if backend.discovery is not None else None
        if name is not None and not reading.environ.get(name):
            what = f"the environment variable {name}, the API key of what `{backend.name}` discovers, is not set"
            remedy = f"export {name}=…, or remove `api_key_env` if the backend needs no key"
            yield reading.source.finding((*place, "discovery", "api_key_env"), what, remedy)

    redis = reading.config.redis
    if redis is not None and redis.password_env is not None and not reading.environ.get(redis.password_env):
        what = f"the environment variable {redis.password_env}, the password of Redis, is not set"
        remedy = f"export {redis.password_env}=…, or remove `password_env` if Redis needs none"
        yield reading.source.finding(("redis", "password_env"), what, remedy)

    password_env = reading.config.ledger.password_env
    if password_env is not None and not reading.environ.get(password_env):
        what = f"the environment variable {password_env}, the password of the ledger's PostgreSQL, is not set"
        remedy = f"export {password_env}=…, or remove `password_env` if PostgreSQL needs none"
        yield reading.source.finding(("ledger", "password_env"), what, remedy)


def check_listening(reading: Reading) -> Iterator[Finding]:
    server, admin = reading.config.server, reading.config.admin
    sections = {"server": server.host}
    if admin is not None:
        sections["admin"] = admin.host
        if admin.port == server.port != 0 and (admin.host == server.host or EVERYWHERE & set(sections.values())):
            what = f"the admin port {admin.port} is the data port, too"
            yield reading.source.finding(("admin", "port"), what, "give one of them another port")
    for section, host in sections.items():
        if not reading.has_pepper and is_beyond_loopback(host):
            what = f"listening on `{host}` is public, and JETON_API_KEY_PEPPER is not set"
            remedy = "set it to a random text and hash the keys with it (`jeton key`), or listen on 127.0.0.1"
            yield reading.source.finding((section, "host"), what, remedy)


def keys_over_plain_http(reading: Reading) -> Iterator[Finding]:
    for place, _, backend in reading.backends():
        for position, replica in enumerate(backend.replicas):
            if (
                (replica.api_key_env or replica.api_key_file)
                and replica.url.startswith("http:")
                and not is_private(replica.url)
            ):
                what = f"the API key of `{backend.name}` goes to {replica.url} in clear text"
                yield reading.source.finding((*place, "replicas", position, "url"), what, "use https://")
