"""`jeton key`: makes an API key, or hashes one that exists; prints what belongs in router.yaml."""

import os
import re
import sys

import click

from router.access.keys import api_key_hash, api_key_prefix, new_api_key
from router.config.section import NAME
from router.config_checks.names import NO_TENANTS
from router.config_file import PEPPER, read_secrets
from router.config_shape import PATTERNS


@click.command()
@click.option("--name", default="default", show_default=True, help="The key's name within its tenant.")
@click.option("--tenant", default="default", show_default=True, help="The tenant that pays for what is asked with it.")
@click.option("--hash", "is_hash", is_flag=True, help="Hash the key that stands on standard input.")
def key(name: str, tenant: str, is_hash: bool) -> None:
    """Make an API key, or hash one that exists.

    The key is printed once and stored nowhere; router.yaml gets its hash, made with JETON_API_KEY_PEPPER if that is set.
    An existing key is read from standard input, because arguments can be seen by everyone on the machine.
    """
    _refuse_names(tenant, name)
    if is_hash:
        asks = sys.stdin.isatty()
        line: str = click.prompt("API key", hide_input=True, err=True) if asks else sys.stdin.readline()
        api_key = line.strip()
        if not api_key:
            raise click.ClickException("there is no key on standard input")
    else:
        api_key = new_api_key()
        click.echo(f"API key (shown this once): {api_key}\n")
    pepper = read_secrets(os.environ).pepper.get_secret_value()
    if not pepper:
        click.echo(f"# {PEPPER} is not set: this hash is good for a router on loopback only.", err=True)
    click.echo(
        "tenants:\n"
        f"  - name: {tenant}\n"
        "    api_keys:\n"
        f"      - name: {name}\n"
        f"        hash: {api_key_hash(api_key, pepper.encode())}\n"
        f"        prefix: {api_key_prefix(api_key)}"
    )


def _refuse_names(tenant: str, name: str) -> None:
    """Those with which `jeton check` would not take the snippet: nobody shall hand out a key that lets no one in."""
    for option, given in (("--tenant", tenant), ("--name", name)):
        if not re.fullmatch(NAME, given):
            raise click.BadParameter(f"{given!r} is no name; {PATTERNS[NAME]}", param_hint=option)
    if (taken := NO_TENANTS.get(tenant)) is not None:
        what = f"the tenant `{tenant}` has the name under which {taken}; give it another name"
        raise click.BadParameter(what, param_hint="--tenant")
