"""What `load` accepts and refuses. A refusal is a change to a good pair of files, the place it must name, and its words."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from router.access.keys import ApiKeys
from router.classify.classifier import Classifier
from router.config_file import LoadedConfig, load
from router.config_source import ConfigRefused
from router.domain.fleet import Billing, EngineKind
from router.domain.request import Capability, Prompt
from router.fleet_config import build_prices
from router.pricing.price import LeasedPrice
from router.pricing.profile import Speculation
from router.profiles import shipped

DEPLOY = Path(__file__).parents[2] / "deploy" / "config"
DAY = date(2026, 11, 23)
ENVIRON = {"CLOUD_KEY": "a secret of the cloud"}

ROUTER = f"""\
server:
  host: 127.0.0.1
  port: 8080
policy:
  name: quality_floor
  parameters:
    quality_min: 0.9
baseline: big
tiers: [small, large]
aliases:
  auto: {{}}
  cheap:
    tiers: [small]
tenants:
  - name: red
    models: [auto, cheap]
    requests_per_minute: 60
    api_keys:
      - name: laptop
        hash: hmac-sha256:{"1" * 64}
      - name: desktop
        hash: hmac-sha256:{"2" * 64}
  - name: blue
profiles:
  engine:
    parameters_billion: 8
    layers: 32
    kv_bytes_per_token: 131072
    weight_bytes_per_parameter: 1
    memory_gb: 80
    bandwidth_gb_per_second: 3350
    tflops: 1978
pools:
  - name: central
    kind: central
    billing: leased
    backends:
      - name: tiny
        model: llama-8b
        tier: small
        context_tokens: 8192
        price: gpu
        profile: engine
        replicas:
          - url: http://10.0.0.1:8000
          - url: http://10.0.0.2:8000
            name: second
      - name: big
        model: llama-70b
        tier: large
        context_tokens: 8192
        price: gpu
        profile: engine
        replicas:
          - url: http://10.0.0.3:8000/
  - name: cloud
    kind: cloud
    billing: metered
    rtt_seconds: 0.1
    backends:
      - name: bought
        model: gpt
        engine: openai
        context_tokens: 8192
        price: tokens
        replicas:
          - url: https://api.example.com
            api_key_env: CLOUD_KEY
"""

PRICES = """\
prices:
  gpu:
    - kind: lease
      from: 2026-01-01
      usd_per_hour: 3.60
      source: a test
  tokens:
    - kind: tokens
      from: 2026-01-01
      until: 2027-06-01
      prompt_usd_per_million: 1
      completion_usd_per_million: 4
      source: a test
"""


@dataclass(frozen=True)
class Refusal:
    """A change of `old` to `new` in one file, and what must be said of it where `at` first stands in the result.

    The place is in router.yaml unless `file` says otherwise.
    """

    old: str
    new: str
    at: str
    says: str
    file: str = ""


def of_prices(old: str, new: str, at: str, says: str) -> Refusal:
    return Refusal(old, new, at, says, "prices.yaml")


FIGURES = ROUTER[ROUTER.index("    parameters_billion") : ROUTER.index("pools:")]

REFUSALS = {
    # Names of members and the shapes of their values
    "a misspelt member": Refusal(
        "rtt_seconds",
        "rtt_second",
        "rtt_second",
        "`rtt_second` is not a member of `pools[1]`; did you mean `rtt_seconds`?",
    ),
    "a misspelt section": Refusal(
        "tenants:", "tennants:", "tennants", "`tennants` is not a member of the file; did you mean `tenants`?"
    ),
    "an unheard-of member": Refusal(
        "  port: 8080", "  zebra: 1", "zebra", "`zebra` is not a member of `server`; there is `body_bytes_max`, "
    ),
    "a missing member": Refusal(
        "        price: tokens\n", "", "name: bought", "`price` is missing in `pools[1].backends[0]`; add `price: …`"
    ),
    "a missing section": Refusal(
        "baseline: big\n", "", "server", "`baseline` is missing in the file; add `baseline: …`"
    ),
    "a misspelt word": Refusal(
        "billing: metered",
        "billing: meterd",
        "meterd",
        "`pools[1].billing` is `meterd`; did you mean `metered`? allowed: leased, metered",
    ),
    "a quality ratio above 1": Refusal(
        "        model: gpt\n",
        "        model: gpt\n        quality_ratio: 1.01\n",
        "1.01",
        "`pools[1].backends[0].quality_ratio` is `1.01`; it must be less than or equal to 1",
    ),
    "a negative quality ratio": Refusal(
        "        model: gpt\n",
        "        model: gpt\n        quality_ratio: -0.5\n",
        "-0.5",
        "`pools[1].backends[0].quality_ratio` is `-0.5`; it must be greater than 0",
    ),
    "a quality ratio of 0": Refusal(
        "        model: gpt\n",
        "        quality_ratio: 0.000\n        model: gpt\n",
        "0.000",
        "`pools[1].backends[0].quality_ratio` is `0.0`; it must be greater than 0",
    ),
    "a quality ratio that is no number": Refusal(
        "        model: gpt\n",
        "        model: gpt\n        quality_ratio: .nan\n",
        ".nan",
        "`pools[1].backends[0].quality_ratio` is `nan`; it must",
    ),
    "a number out of range": Refusal(
        "port: 8080", "port: 80800", "80800", "`server.port` is `80800`; it must be less than or equal to 65535"
    ),
    "a word for a number": Refusal(
        "rtt_seconds: 0.1", "rtt_seconds: soon", "soon", "`pools[1].rtt_seconds` is `soon`; it must"
    ),
    "an empty section": Refusal(
        "server:\n  host: 127.0.0.1\n  port: 8080",
        "server:",
        "\npolicy",
        "`server` is empty; it must be a mapping: members below it, indented",
    ),
    "a scalar for a list": Refusal(
        "tiers: [small, large]", "tiers: small", "small", "`tiers` is `small`; it must be a list: [a, b], or lines that"
    ),
    "an empty list": Refusal(
        "    tiers: [small]",
        "    tiers: [small]\nretries: []",
        "[]",
        "`retries` is an empty list; it must be a mapping",
    ),
    "a name with a space": Refusal(
        "name: cloud", "name: the cloud", "the cloud", "`pools[1].name` is `the cloud`; use letters, digits and"
    ),
    # Duplicate names
    "two pools of one name": Refusal(
        "name: cloud",
        "name: central",
        "central\n    kind: cloud",
        "there is another pool named `central`; give each a name",
    ),
    "two backends of one name": Refusal(
        "name: bought", "name: tiny", "tiny\n        model: gpt", "there is another backend named `tiny`"
    ),
    "two tenants of one name": Refusal(
        "name: blue", "name: red", "red\nprofiles", "there is another tenant named `red`"
    ),
    "two keys of one name": Refusal(
        "name: desktop",
        "name: laptop",
        "laptop\n        hash: hmac-sha256:2",
        "there is another API key of tenant `red` named",
    ),
    "one key twice": Refusal(
        "2" * 64,
        "1" * 64,
        "hmac-sha256:" + "1" * 64 + "\n  - name: blue",
        "the API key `desktop` has the hash of `red/laptop`",
    ),
    "two tiers of one name": Refusal(
        "tiers: [small, large]", "tiers: [small, large, small]", "small]", "there is another tier named `small`"
    ),
    "two replicas of one name": Refusal(
        "name: second", "name: tiny/1", "tiny/1", "there is another replica named `tiny/1`"
    ),
    "two replicas at one address": Refusal(
        "10.0.0.2:8000",
        "10.0.0.1:8000/",
        "http://10.0.0.1:8000/",
        "`http://10.0.0.1:8000/` is a replica of `tiny` already; remove one of them",
    ),
    "one engine leased twice": Refusal(
        "10.0.0.3:8000",
        "10.0.0.2:8000",
        "http://10.0.0.2:8000/",
        "`http://10.0.0.2:8000/` is a replica of `tiny` already; remove one of them: it would be counted and paid twice",
    ),
    "a member set twice": Refusal(
        "  port: 8080",
        "  port: 8080\n  port: 8081",
        "port: 8081",
        "`port` is set twice (first in line 3); keep one of them",
    ),
    # Replicas that are taken away, or stopped
    "what is not taken away": Refusal(
        "        tier: large\n",
        "        tier: large\n        preemption: {per_hour: 0.1}\n",
        "preemption",
        "replicas of `big` are not taken away: its price `gpu` is none of spot; remove `preemption`, or give the price",
    ),
    "tokens that scale to zero": Refusal(
        "        price: tokens\n",
        "        price: tokens\n        scale_to_zero: {cold_start_seconds: 20, idle_seconds: 60}\n",
        "scale_to_zero",
        "`bought` is paid by the token, whether or not anything runs; remove `scale_to_zero`, or move the backend",
    ),
    "a start that is not waited for": Refusal(
        "        tier: large\n",
        "        tier: large\n        scale_to_zero: {cold_start_seconds: 90, idle_seconds: 300}\n",
        "90, idle",
        "a cold start of 90 s outlasts `timeouts.first_byte_seconds`, 60; raise that to what a start may take at most, 180",
    ),
    "what is stopped and looked for": Refusal(
        "        replicas:\n          - url: http://10.0.0.3:8000/\n",
        "        scale_to_zero: {cold_start_seconds: 20, idle_seconds: 60}\n        discovery: {file: replicas.yaml}\n",
        "discovery",
        "a replica of `big` that is stopped would not be found, and so never be woken; list under `replicas` the addresses",
    ),
    "a start without its time": Refusal(
        "        tier: large\n",
        "        tier: large\n        scale_to_zero: {idle_seconds: 60}\n",
        "scale_to_zero",
        "`cold_start_seconds` is missing in `pools[0].backends[1].scale_to_zero`",
    ),
    # Names that lead nowhere
    "an unknown tier": Refusal(
        "tier: small", "tier: smal", "smal\n", "there is no tier named `smal`; did you mean `small`?"
    ),
    "an unknown tier of an alias": Refusal(
        "tiers: [small]", "tiers: [smal]", "smal]", "there is no tier named `smal`; did you mean `small`?"
    ),
    "an unknown pool of an alias": Refusal(
        "tiers: [small]", "pools: [centrale]", "centrale", "there is no pool named `centrale`; did you mean `central`?"
    ),
    "an unknown backend of an alias": Refusal(
        "tiers: [small]", "backends: [tinny]", "tinny", "there is no backend named `tinny`; did you mean `tiny`?"
    ),
    "an unknown model of an alias": Refusal(
        "tiers: [small]",
        "models: [zzz]",
        "zzz",
        "there is no model named `zzz`; there is `gpt`, `llama-70b`, `llama-8b`",
    ),
    "an unknown model of a tenant": Refusal(
        "[auto, cheap]",
        "[auto, cheep]",
        "cheep",
        "there is no alias, backend or model named `cheep`; did you mean `cheap`?",
    ),
    "an unknown baseline": Refusal(
        "baseline: big", "baseline: bg", "bg", "there is no backend named `bg`; did you mean `big`?"
    ),
    "an unknown profile": Refusal(
        "profile: engine", "profile: engin", "engin\n", "there is no profile named `engin`; did you mean `engine`?"
    ),
    "a profile like none there is": Refusal(
        "profile: engine",
        "profile: zzzzzzzz",
        "zzzzzzzz",
        "there is no profile named `zzzzzzzz`; there is `engine`, and `jeton profile list` tells those that come with jeton",
    ),
    # Profiles of models and GPUs
    "a model that jeton does not know": Refusal(
        FIGURES,
        "    {model: llama-3.1-8, gpu: h100, quantization: fp8}\n",
        "engine:",
        "the profile `engine`: there is no shape of a model `llama-3.1-8`; did you mean `llama-3.1-8b`?",
    ),
    "a GPU that jeton does not know": Refusal(
        FIGURES,
        "    {model: llama-3.1-8b, gpu: h10, quantization: fp8}\n",
        "engine:",
        "the profile `engine`: there is no sheet of a GPU `h10`; did you mean `h100`?",
    ),
    "a quantization that there is not": Refusal(
        FIGURES,
        "    {model: llama-3.1-8b, gpu: h100, quantization: fp9}\n",
        "engine:",
        "the profile `engine`: no quantization `fp9`",
    ),
    "a model that its GPU does not hold": Refusal(
        FIGURES,
        "    {model: llama-3.1-70b, gpu: h100, quantization: bf16}\n",
        "engine:",
        "the profile `engine`: the weights of llama-3.1-70b in bf16 leave no room for a KV cache on 1 × h100",
    ),
    "a profile of a model without its GPU": Refusal(
        FIGURES,
        "    model: llama-3.1-8b\n    quantization: fp8\n",
        "engine:",
        "`gpu` is missing in `profiles.engine`",
    ),
    "a member that a profile does not have": Refusal(
        "    layers: 32",
        "    layer: 32",
        "layer:",
        "`layer` is not a member of `profiles.engine`; did you mean `layers`?",
    ),
    # Aliases
    "an alias that nothing can serve": Refusal(
        "    tiers: [small]", "    tiers: [small]\n    pools: [cloud]", "cheap:", "nothing can serve the alias `cheap`"
    ),
    "an alias that hides a model": Refusal(
        "  cheap:", "  gpt:", "gpt:", "the alias `gpt` hides the model of that name; give the alias another name"
    ),
    "an alias that hides a backend": Refusal(
        "  cheap:", "  big:", "big:\n", "the alias `big` hides the backend of that name"
    ),
    "an alias with a space": Refusal(
        "  cheap:", "  quite cheap:", "quite cheap:", "the alias `quite cheap` is not a name"
    ),
    # Budgets
    "a budget of nothing": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 0, per: day}]",
        "0, per",
        "`tenants[1].budgets[0].usd` is `0`; it must be greater than 0",
    ),
    "a budget a week": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 5, per: week}]",
        "week",
        "`tenants[1].budgets[0].per` is `week`; allowed: day, month, total",
    ),
    "a budget that nobody can count": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 0.00000000001, per: day}]",
        "0.00000000001",
        "`tenants[1].budgets[0].usd` is",
    ),
    "two budgets a day": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 5, per: day}, {usd: 6, per: day}]",
        "day}]",
        "there is another budget a day here; keep the smaller of them: it is the one that counts",
    ),
    "an unknown tier of a key's budget": Refusal(
        "      - name: desktop",
        "      - name: desktop\n        budgets: [{usd: 5, per: total, degrade: {tiers: [smal]}}]",
        "smal]",
        "there is no tier named `smal`; did you mean `small`?",
    ),
    "a degrade that restricts nothing": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 5, per: day, degrade: {at_ratio: 0.5}}]",
        "degrade: {",
        "`degrade` restricts nothing; name the `tiers` or `pools` to which requests go, or take it out",
    ),
    "a degrade that leaves nothing": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 5, per: day, degrade: {tiers: [small], pools: [cloud]}}]",
        "degrade: {",
        "no backend is in the tiers and pools to which `degrade` restricts",
    ),
    "a degrade at the end": Refusal(
        "  - name: blue",
        "  - name: blue\n    budgets: [{usd: 5, per: day, degrade: {at_ratio: 1, tiers: [small]}}]",
        "1, tiers",
        "`tenants[1].budgets[0].degrade.at_ratio` is `1`; it must be less than 1",
    ),
    "a password in Redis' address": Refusal(
        "  - name: blue",
        "  - name: blue\nredis: {url: 'redis://me:word@10.0.0.9:6379'}",
        "'redis://me",
        "`redis.url` is not right (its value is not shown: it may be a secret); write redis:// or rediss://, the host",
    ),
    "a password of Redis that is not set": Refusal(
        "  - name: blue",
        "  - name: blue\nredis: {url: 'redis://10.0.0.9:6379', password_env: REDIS_PASSWORD}",
        "REDIS_PASSWORD",
        "the environment variable REDIS_PASSWORD, the password of Redis, is not set; export REDIS_PASSWORD=…",
    ),
    "a password in PostgreSQL's address": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://me:word@10.0.0.9/jeton'}",
        "'postgresql://me",
        "`ledger.url` is not right (its value is not shown: it may be a secret); write postgresql://, the host and the database",
    ),
    "a password among the parameters of PostgreSQL's address": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://me@10.0.0.9/jeton?password=word'}",
        "'postgresql://me",
        "`password` is not a parameter that may stand in the ledger's url; put the password into the environment",
    ),
    "a parameter of PostgreSQL's address that is none": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://me@10.0.0.9/jeton?ssl_mode=require'}",
        "'postgresql://me",
        "`ssl_mode` is not a parameter that may stand in the ledger's url; did you mean `sslmode`?",
    ),
    "a way of TLS that is none": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://me@10.0.0.9/jeton?sslmode=verify_full'}",
        "'postgresql://me",
        "`sslmode=verify_full` in the ledger's url is none that there is; did you mean `verify-full`?",
    ),
    "a ledger without a database": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://10.0.0.9'}",
        "'postgresql://10",
        "`ledger.url` is `postgresql://10.0.0.9`; write postgresql://, the host and the database",
    ),
    "a ledger in two places": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {path: here.sqlite, url: 'postgresql://10.0.0.9/jeton'}",
        "path: here",
        "`ledger` has a `path` and a `url`: it is in a file or in PostgreSQL; remove one of them",
    ),
    "a password of PostgreSQL that is not set": Refusal(
        "  - name: blue",
        "  - name: blue\nledger: {url: 'postgresql://10.0.0.9/jeton', password_env: LEDGER_PASSWORD}",
        "LEDGER_PASSWORD",
        "the environment variable LEDGER_PASSWORD, the password of the ledger's PostgreSQL, is not set; export LEDGER_PASSWORD=…",
    ),
    # Policies
    "an unknown policy": Refusal(
        "quality_floor",
        "quality_flor",
        "quality_flor",
        "there is no policy 'quality_flor'; did you mean 'quality_floor'?",
    ),
    "an unknown parameter": Refusal(
        "quality_min",
        "quality_mim",
        "quality_mim",
        "`quality_mim` is not a member of `policy.parameters`; did you mean `quality_min`?",
    ),
    "a parameter out of range": Refusal(
        "quality_min: 0.9",
        "quality_min: 9",
        "9\n",
        "`policy.parameters.quality_min` is `9`; it must be less than or equal to 1",
    ),
    "a policy that is not there": Refusal(
        "quality_floor",
        "nowhere.to.be:Found",
        "nowhere.to.be",
        "the policy's module 'nowhere.to.be' cannot be imported",
    ),
    # Secrets
    "a key in clear text": Refusal(
        "hmac-sha256:" + "2" * 64,
        "swordfish",
        "swordfish",
        "`tenants[0].api_keys[1].hash`: is not `hmac-sha256:` and 64 hex digits, so it may be a key in clear text; put the "
        "hash that `jeton key --hash` prints",
    ),
    "a key that looks like one": Refusal(
        "name: blue",
        "name: blue  # sk-jeton-AbCdEfGh12345678",
        "sk-jeton",
        "what looks like a secret stands here in clear",
    ),
    "a key for the name of its variable": Refusal(
        "CLOUD_KEY",
        "sk-abc",
        "sk-abc",
        "`pools[1].backends[0].replicas[0].api_key_env` is not right (its value is not shown: it may be a secret); "
        "name an environment variable in capitals",
    ),
    "a variable that is not set": Refusal(
        "CLOUD_KEY",
        "CLOUD_TOKEN",
        "CLOUD_TOKEN",
        "the environment variable CLOUD_TOKEN, the API key of backend `bought`, is not",
    ),
    # Addresses
    "an address without a scheme": Refusal(
        "http://10.0.0.1:8000",
        "10.0.0.1:8000",
        "10.0.0.1",
        "`pools[0].backends[0].replicas[0].url` is `10.0.0.1:8000`; write",
    ),
    "an address with a password": Refusal(
        "http://10.0.0.1", "http://me:word@10.0.0.1", "http://me", "`pools[0].backends[0].replicas[0].url` is"
    ),
    "a port that cannot be": Refusal(
        "10.0.0.1:8000", "10.0.0.1:80000", "http://10.0.0.1", "`http://10.0.0.1:80000` is not an address (is the port"
    ),
    "port 0": Refusal("10.0.0.1:8000", "10.0.0.1:0", "http://10.0.0.1", "`http://10.0.0.1:0` has no port that can be"),
    "everywhere": Refusal(
        "10.0.0.1", "0.0.0.0", "http://0.0.0.0", "`http://0.0.0.0:8000` is not the address of a server"
    ),
    "the cloud's metadata": Refusal(
        "10.0.0.1", "169.254.169.254", "http://169", "`http://169.254.169.254:8000` is not the address of a server"
    ),
    "an address with /v1": Refusal(
        "10.0.0.1:8000",
        "10.0.0.1:8000/v1/",
        "http://10.0.0.1",
        "`http://10.0.0.1:8000/v1/` ends in /v1, which jeton adds itself; write http://10.0.0.1:8000",
    ),
    "listening to the world without a pepper": Refusal(
        "host: 127.0.0.1",
        "host: 0.0.0.0",
        "0.0.0.0",
        "listening on `0.0.0.0` is public, and JETON_API_KEY_PEPPER is not set",
    ),
    "an admin port for the world without a pepper": Refusal(
        "tiers: [small, large]",
        f"tiers: [small, large]\nadmin: {{host: 0.0.0.0, port: 1, api_keys: [{{name: ops, hash: 'hmac-sha256:{'3' * 64}'}}]}}",
        "0.0.0.0",
        "listening on `0.0.0.0` is public, and JETON_API_KEY_PEPPER is not set",
    ),
    "an admin port that is the data port": Refusal(
        "tiers: [small, large]",
        f"tiers: [small, large]\nadmin: {{port: 8080, api_keys: [{{name: ops, hash: 'hmac-sha256:{'3' * 64}'}}]}}",
        "8080, api",
        "the admin port 8080 is the data port, too",
    ),
    "an admin port that takes the data port, too": Refusal(
        "tiers: [small, large]",
        f"tiers: [small, large]\nadmin: {{host: 0.0.0.0, port: 8080, api_keys: [{{name: ops, hash: 'hmac-sha256:{'3' * 64}'}}]}}",
        "8080, api",
        "the admin port 8080 is the data port, too",
    ),
    "an admin with a tenant's key": Refusal(
        "tiers: [small, large]",
        f"tiers: [small, large]\nadmin: {{port: 1, api_keys: [{{name: ops, hash: 'hmac-sha256:{'1' * 64}'}}]}}",
        f"'hmac-sha256:{'1' * 64}'",
        "the API key `ops` has the hash of `red/laptop`",
    ),
    "an admin port for nobody": Refusal(
        "tiers: [small, large]",
        "tiers: [small, large]\nadmin: {port: 1, api_keys: []}",
        "[]}",
        "`admin.api_keys` is an empty list; it must have at least 1 item, not 0",
    ),
    "media from a URL": Refusal(
        "tiers: [small, large]",
        "tiers: [small, large]\nmedia: {domains: ['https://images.example.org/']}",
        "'https://images",
        "`media.domains[0]` is `https://images.example.org/`; write a host's name in lower case, without scheme and port",
    ),
    # Profiles and prices
    "weights that do not fit": Refusal(
        "memory_gb: 80", "memory_gb: 8", "engine:", "the profile `engine`: 8 GB of weights leave no room for a KV cache"
    ),
    "a leased backend without a profile": Refusal(
        "        profile: engine\n", "", "name: tiny", "the leased backend `tiny` has no profile"
    ),
    "no file of prices": Refusal(
        "tiers: [small, large]",
        "tiers: [small, large]\nprices: rates.yaml",
        "rates.yaml",
        "there is no file of prices at ",
    ),
    "a backend without a price": Refusal(
        "price: gpu",
        "price: gpus",
        "gpus",
        "the backend `tiny` has no price in force on 2026-11-23: there is no price named `gpus`; there is `gpu`",
    ),
    "tokens for an hour": Refusal(
        "price: gpu",
        "price: tokens",
        "tokens\n        profile",
        "the price `tokens` is by the token, but the pool `central` is leased",
    ),
    "hours for a token": Refusal(
        "price: tokens",
        "price: gpu",
        "gpu\n        replicas:\n          - url: https",
        "the price `gpu` is by the hour, but the",
    ),
}

PRICE_REFUSALS = {
    "a price that is ten times too high": of_prices(
        "3.60",
        "360",
        "360",
        "`prices.gpu[0].usd_per_hour`: 360 USD for a GPU-hour is more than 10 times outside what is known",
    ),
    "a price that is no number": of_prices(
        "3.60", "cheap", "cheap", "`prices.gpu[0].usd_per_hour`: `cheap` is not a number"
    ),
    "an unknown kind": of_prices(
        "kind: lease",
        "kind: leese",
        "leese",
        "`kind` of `prices.gpu[0]` is `leese`; did you mean `lease`? allowed: lease, owned,",
    ),
    "no kind": of_prices("kind: lease\n      ", "", "from", "`kind` is missing in `prices.gpu[0]`; add `kind: …`"),
    "a misspelt member": of_prices(
        "usd_per_hour",
        "usd_per_our",
        "usd_per_our",
        "`usd_per_our` is not a member of `prices.gpu[0]`; did you mean `usd_per_hour`?",
    ),
    "a member of another kind": of_prices(
        "      source: a test\n  tokens",
        "      source: a test\n      life_years: 5\n  tokens",
        "life_years",
        "`life_years` is not a member of `prices.gpu[0]`; there is `confirmed`, `discount_ratio`, `from`",
    ),
    "no source": of_prices(
        "      source: a test\n  tokens", "  tokens", "kind: lease", "`source` is missing in `prices.gpu[0]`"
    ),
    "no rows": of_prices(
        PRICES[PRICES.index("  tokens:") :],
        "  tokens: []\n",
        "[]",
        "`prices.tokens`: has no rows; add one",
    ),
    "a cache in a redis that is not there": Refusal(
        "tiers: [small, large]",
        "tiers: [small, large]\ncache: {store: redis}",
        "redis}",
        "there is no `redis` to keep answers in; add it, or use memory",
    ),
    "a tenant named as shadows are": Refusal(
        "name: blue",
        "name: shadow",
        "shadow",
        "the tenant `shadow` has the name under which shadows of requests are booked; give it another name",
    ),
    "a tenant named as metrics fold others": Refusal(
        "name: blue",
        "name: other",
        "other",
        "the tenant `other` has the name under which metrics count tenants that they have no room for; give it another name",
    ),
    "a shadow at a backend that is not there": Refusal(
        "baseline: big",
        "baseline: big\nshadow: {ratio: 0.1, backends: [tyni]}",
        "tyni",
        "there is no backend named `tyni`; there is `big`, `bought`, `tiny`",
    ),
    "a backend named as recalled answers are": Refusal(
        "name: tiny",
        "name: cache",
        "cache",
        "the backend `cache` has the name under which answers from the response cache",
    ),
    "a feed without a place": of_prices(
        "prices:\n",
        "feeds:\n  market: {prices: [gpu]}\nprices:\n",
        "{prices",
        "`feeds.market`: a feed is read from one place; write either `url` or `file`",
    ),
    "a feed of a secret": of_prices(
        "prices:\n",
        "feeds:\n  market: {url: 'https://me:word@prices.internal/', prices: [gpu]}\nprices:\n",
        "'https",
        "`feeds.market.url` is not right (its value is not shown: it may be a secret)",
    ),
    "a feed of what is no lease": of_prices(
        "prices:\n",
        "feeds:\n  market: {file: spot.json, prices: [tokens]}\nprices:\n",
        "market",
        "`feeds`: `market` moves `tokens`, which is not a `lease` on spot or on demand; a feed tells their $/hour",
    ),
    "a feed of nothing": of_prices(
        "prices:\n",
        "feeds:\n  market: {file: spot.json, prices: [gpus]}\nprices:\n",
        "market",
        "`feeds`: `market` moves `gpus`, which has no rows; add one, which holds until the feed is read",
    ),
    "two feeds of one price": of_prices(
        "prices:\n",
        "feeds:\n  a: {file: a.json, prices: [gpu]}\n  b: {file: b.json, prices: [gpu]}\nprices:\n",
        "a: {",
        "`feeds`: `gpu` is moved by `a` and by `b`; leave it to one of them",
    ),
    "a name twice": of_prices(
        "  tokens:", "  gpu:", "gpu:\n    - kind: tokens", "`gpu` is set twice (first in line 2)"
    ),
}


def write(folder: Path, router: str = ROUTER, prices: str = PRICES) -> Path:
    (folder / "prices.yaml").write_text(prices)
    path = folder / "router.yaml"
    path.write_text(router)
    return path


def refused(path: Path, environ: dict[str, str] = ENVIRON, day: date = DAY) -> list[str]:
    with pytest.raises(ConfigRefused) as refusal:
        load(path, environ=environ, day=day)
    assert str(refusal.value).splitlines() == [str(mistake) for mistake in refusal.value.mistakes]
    return str(refusal.value).splitlines()


def loaded(path: Path, environ: dict[str, str] = ENVIRON, day: date = DAY) -> LoadedConfig:
    return load(path, environ=environ, day=day)


def hourly_nanousd(config: LoadedConfig, backend: str) -> int:
    price = config.prices[backend]
    assert isinstance(price, LeasedPrice)
    return price.nanousd_per_hour


@pytest.mark.parametrize("refusal", [*REFUSALS.values(), *PRICE_REFUSALS.values()], ids=[*REFUSALS, *PRICE_REFUSALS])
def test_a_mistake_is_refused_with_file_line_and_remedy(tmp_path: Path, refusal: Refusal) -> None:
    text = PRICES if refusal.file else ROUTER
    assert refusal.old in text
    changed = text.replace(refusal.old, refusal.new, 1)
    before = changed[: changed.index(refusal.at)]
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    path = write(tmp_path, prices=changed) if refusal.file else write(tmp_path, changed)
    expected = f"{path.parent / (refusal.file or 'router.yaml')}:{line}:{column}: {refusal.says}"
    told = refused(path)
    assert [one for one in told if one.startswith(expected)], f"{expected}\nnot in\n" + "\n".join(told)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (
            "        model: gpt\n",
            "        model: gpt\n        quality_ratio: true\n",
            "pools[1].backends[0].quality_ratio",
        ),
        ("    quality_min: 0.9", "    quality_min: true", "policy.parameters.quality_min"),
        ("    quality_min: 0.9", "    ttft_seconds_max: off", "policy.parameters.ttft_seconds_max"),
        ("context_tokens: 8192", "context_tokens: yes", "pools[0].backends[0].context_tokens"),
        ("requests_per_minute: 60", "requests_per_minute: on", "tenants[0].requests_per_minute"),
        ("rtt_seconds: 0.1", "rtt_seconds_from: {eu: yes}", "pools[1].rtt_seconds_from.eu"),
        ("rtt_seconds: 0.1", "rtt_seconds: false", "pools[1].rtt_seconds"),
        ("port: 8080", "port: true", "server.port"),
        ("    layers: 32", "    layers: true", "profiles.engine.layers"),
        ("baseline: big", "baseline: big\nholdout_ratio: no", "holdout_ratio"),
        ("baseline: big", "baseline: big\ncarbon_grams_per_kwh: {eu: yes}", "carbon_grams_per_kwh.eu"),
        (
            "baseline: big",
            "baseline: big\npolicies: [{name: slo, parameters: {ttft_seconds_max: yes}, tenants: [red]}]",
            "policies[0].parameters.ttft_seconds_max",
        ),
    ],
)
def test_yes_and_no_are_no_numbers(tmp_path: Path, old: str, new: str, place: str) -> None:
    assert old in ROUTER
    changed = ROUTER.replace(old, new, 1)
    name = place.rpartition(".")[2]
    line = changed[: changed.index(f"{name}: ", changed.index(new))].count("\n") + 1
    told = refused(write(tmp_path, changed))
    [mistake] = [one for one in told if "must be a number" in one]
    assert f"router.yaml:{line}:" in mistake
    assert f": `{place}` is `" in mistake
    assert "(YAML reads yes and on as true, no and off as false)" in mistake
    assert len(told) == 1, "it is told once, whatever else pydantic makes of 1 and 0"


def test_yes_and_no_are_taken_where_they_belong(tmp_path: Path) -> None:
    router = ROUTER.replace("baseline: big", "baseline: big\nprefix_affinity: no")
    assert not loaded(write(tmp_path, router)).config.prefix_affinity


@pytest.mark.parametrize("refusal", [*REFUSALS.values(), *PRICE_REFUSALS.values()], ids=[*REFUSALS, *PRICE_REFUSALS])
def test_every_refusal_says_what_would_be_right(tmp_path: Path, refusal: Refusal) -> None:
    text = PRICES if refusal.file else ROUTER
    changed = text.replace(refusal.old, refusal.new, 1)
    told = refused(write(tmp_path, prices=changed) if refusal.file else write(tmp_path, changed))
    assert all("; " in one for one in told), told
    assert "swordfish" not in "".join(told), "a key is never repeated"
    assert not any("AbCdEfGh" in one or "sk-abc" in one for one in told), "a key is never repeated"


def test_the_example_is_accepted_without_a_warning(tmp_path: Path) -> None:
    assert loaded(write(tmp_path)).warnings == ()


def test_all_mistakes_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    router = ROUTER.replace("port: 8080", "port: x").replace("rtt_seconds", "rtt").replace("tiers: [small]", "tier: []")
    told = refused(write(tmp_path, router, PRICES.replace("3.60", "360").replace("until", "untill")))
    assert [one.split(":")[0].rsplit("/", 1)[1] for one in told] == ["prices.yaml"] * 2 + ["router.yaml"] * 3


def test_all_mistakes_beyond_the_shape_are_told_at_once(tmp_path: Path) -> None:
    router = (
        ROUTER.replace("baseline: big", "baseline: bg")
        .replace("price: tokens", "price: token")
        .replace("quality_floor", "floor")
        .replace("name: blue", "name: red")
    )
    assert len(refused(write(tmp_path, router))) == 4


def test_an_empty_file_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    told = refused(write(tmp_path, "# nothing\n"))
    assert told == [f"{tmp_path}/router.yaml:1:1: is empty; it needs `baseline`, `pools`"]


def test_f37_a_price_that_is_not_yet_or_no_longer_in_force_refuses_the_start(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert loaded(path, day=date(2027, 5, 31)).prices.keys() == {"tiny", "big", "bought"}
    (told,) = refused(path, day=date(2027, 6, 1))
    assert "the backend `bought` has no price in force on 2027-06-01: no row of `tokens` is in force" in told
    assert len(refused(path, day=date(2025, 12, 31))) == 3


def test_f37_a_price_that_ends_soon_is_warned_of(tmp_path: Path) -> None:
    warnings = map(str, loaded(write(tmp_path), day=date(2027, 5, 20)).warnings)
    (warning,) = [warning for warning in warnings if " ends " in warning]
    assert "the price `tokens` ends before 2027-06-19" in warning


def test_f37_a_price_that_ends_while_jeton_runs_is_unknown_and_the_others_stay(tmp_path: Path) -> None:
    running = loaded(write(tmp_path), day=date(2027, 5, 31))
    prices = build_prices(running.config, running.book, date(2027, 6, 1))
    assert prices.keys() == {"tiny", "big"}


def test_an_unusual_price_passes_by_an_explicit_word(tmp_path: Path) -> None:
    prices = PRICES.replace("usd_per_hour: 3.60", "usd_per_hour: 360\n      unusual_price_confirmed: true")
    assert hourly_nanousd(loaded(write(tmp_path, prices=prices)), "tiny") == 360 * 10**9


def test_a11_a_policy_that_weighs_quality_is_refused_where_there_is_one_tier(tmp_path: Path) -> None:
    router = ROUTER.replace("tiers: [small, large]", "tiers: [large]").replace("tier: small", "tier: large")
    router = router.replace("tiers: [small]", "tiers: [large]")
    (told,) = refused(write(tmp_path, router))
    assert ":5:9: the policy `quality_floor` weighs quality, but there is only one tier; list the tiers" in told
    always = router.replace("quality_floor", "round_robin").replace("    quality_min: 0.9", "    {}")
    assert loaded(write(tmp_path, always)).config.policy.name == "round_robin"
    lossy = "        model: gpt\n        quality_ratio: 0.97\n"
    differing = router.replace("        model: gpt\n", lossy)
    assert [one.quality_ratio for one in loaded(write(tmp_path, differing)).backends] == [1.0, 1.0, 0.97]
    alike = differing.replace(
        "        context_tokens: 8192\n", "        context_tokens: 8192\n        quality_ratio: 0.97\n"
    )
    alike = alike.replace(lossy, "        model: gpt\n")
    (told,) = refused(write(tmp_path, alike))
    assert "weighs quality, but there is only one tier" in told


@pytest.mark.parametrize("policy", ["cascade", "fixed_threshold"])
def test_a_policy_that_goes_from_tier_to_tier_is_refused_where_there_is_one(tmp_path: Path, policy: str) -> None:
    router = ROUTER.replace("tiers: [small, large]", "tiers: [large]").replace("tier: small", "tier: large")
    router = router.replace("tiers: [small]", "tiers: [large]").replace("quality_floor", policy)
    router = router.replace("    quality_min: 0.9", "    {}")
    router = router.replace("        model: gpt\n", "        model: gpt\n        quality_ratio: 0.97\n")
    (told,) = refused(write(tmp_path, router))
    assert f":5:9: the policy `{policy}` goes from tier to tier, but there is only one; list the tiers" in told


def test_a11_a_policy_that_needs_what_jeton_has_not_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clairvoyant.py").write_text(
        "from typing import ClassVar\nfrom pydantic import BaseModel\n"
        "class Clairvoyant(BaseModel):\n    needs: ClassVar = frozenset({'price', 'tomorrow'})\n"
        "    def rank(self, request, candidates): return []\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    router = ROUTER.replace("quality_floor", "clairvoyant:Clairvoyant").replace("    quality_min: 0.9", "    {}")
    (told,) = refused(write(tmp_path, router))
    assert "needs `tomorrow`, which jeton does not know" in told


@pytest.mark.parametrize(
    ("policy", "told_of"),
    [
        (
            "edge_first",
            "the policy `edge_first` needs an edge, but no pool is of that kind; say `kind: edge` of a pool, or",
        ),
        (
            "spot_first",
            "the policy `spot_first` prefers spot capacity, but no backend has any; give a price row `purchase",
        ),
    ],
)
def test_a11_a_policy_that_needs_what_the_fleet_has_not_is_refused(tmp_path: Path, policy: str, told_of: str) -> None:
    (told,) = refused(
        write(tmp_path, ROUTER.replace("quality_floor", policy).replace("    quality_min: 0.9", "    {}"))
    )
    assert f":5:9: {told_of}" in told


def test_a11_a_policy_by_prefix_is_refused_where_prefixes_are_not_followed(tmp_path: Path) -> None:
    router = ROUTER.replace("quality_floor", "prefix_affinity").replace("    quality_min: 0.9", "    {}")
    (told,) = refused(write(tmp_path, router + "prefix_affinity: false\n"))
    assert "goes by prefix caches, which jeton is told not to follow; set `prefix_affinity: true`" in told


RULES = """\
policies:
  - name: pack
    hours: "22:00-06:00"
    days: [mon, tue]
  - {name: slo, parameters: {ttft_seconds_max: 1.0}, tenants: [red], models: [auto]}
"""


def test_other_policies_decide_for_some_and_at_some_hours(tmp_path: Path) -> None:
    policies = loaded(write(tmp_path, ROUTER + RULES)).policies
    tuesday_night_ns = int(datetime(2026, 11, 24, 23, tzinfo=UTC).timestamp()) * 10**9
    assert policies.pick("blue", "auto", tuesday_night_ns).name == "pack"
    noon_ns = tuesday_night_ns - 11 * 3600 * 10**9
    assert policies.pick("blue", "auto", noon_ns).name == "quality_floor"
    own = policies.pick("red", "auto", noon_ns)
    assert (own.name, own.policy.ttft_seconds_max) == ("slo", 1.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        (("pack", "pick"), "there is no policy 'pick'"),
        (("22:00-06:00", "ten to six"), "`ten to six` is no time of the day; write it as HH:MM-HH:MM (UTC)"),
        (("mon, tue", "mon, someday"), "someday"),
        (("[red]", "[rid]"), "there is no tenant named `rid`"),
        (("[auto]", "[outo]"), "there is no alias, backend or model named `outo`"),
        (("ttft_seconds_max: 1.0", "ttft_seconds_max: 0"), "ttft_seconds_max"),
        (("slo", "spot_first"), "prefers spot capacity, but no backend has any"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_its_line(
    tmp_path: Path, change: tuple[str, str], told_of: str
) -> None:
    told = refused(write(tmp_path, ROUTER + RULES.replace(*change)))
    line = ROUTER.count("\n")
    assert any(told_of in one for one in told)
    assert all(int(one.split(":")[1]) > line for one in told)


@pytest.mark.parametrize(
    ("change", "told_of"),
    [
        (("  - name: blue\n", "  - {name: blue, pools: [centrol]}\n"), "there is no pool named `centrol`"),
        (("  - name: blue\n", "  - {name: blue, residency: [eu]}\n"), "no pool processes data in `eu`"),
        (
            ("  - name: blue\n", "  - {name: blue, isolation: dedicated}\n"),
            "isolated, but no backend is dedicated to it",
        ),
    ],
)
def test_a_tenant_that_could_go_nowhere_is_refused(tmp_path: Path, change: tuple[str, str], told_of: str) -> None:
    (told,) = refused(write(tmp_path, ROUTER.replace(*change)))
    assert told_of in told


def test_a_policy_that_cannot_be_imported_is_refused_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_policy.py").write_text("1/0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (told,) = refused(write(tmp_path, ROUTER.replace("quality_floor", "broken_policy:Broken")))
    assert "cannot be loaded: ZeroDivisionError" in told


def test_with_a_pepper_it_may_listen_to_the_world(tmp_path: Path) -> None:
    path = write(tmp_path, ROUTER.replace("host: 127.0.0.1", "host: 0.0.0.0"))
    config = loaded(path, environ={**ENVIRON, "JETON_API_KEY_PEPPER": "salt of the earth"})
    assert config.secrets.pepper.get_secret_value() == "salt of the earth"
    assert "salt of the earth" not in repr(config)


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    (told,) = refused(write(tmp_path), environ={"CLOUD_KEY": ""})
    assert "CLOUD_KEY" in told


WARNINGS = {
    "no key at all": (ROUTER[ROUTER.index("tenants:") : ROUTER.index("profiles:")], "", "no tenant has an API key"),
    "a key in clear text on its way": (
        "https://api.example.com",
        "http://api.example.com",
        "in clear text; use https://",
    ),
    "a profile for nothing": (
        "        price: tokens",
        "        price: tokens\n        profile: other",
        "no leased backend uses the profile `other`",
    ),
    "a hidden model": (
        "model: gpt",
        "model: big",
        "who asks for the model `big` gets the backend of that name, never bought",
    ),
    "a key's budget above its tenant's": (
        "    models: [auto, cheap]\n    requests_per_minute: 60\n    api_keys:\n      - name: laptop\n",
        "    models: [auto, cheap]\n    budgets: [{usd: 5, per: day}]\n    api_keys:\n      - name: laptop\n"
        "        budgets: [{usd: 5, per: day}, {usd: 9, per: month}]\n",
        "the key's budget is never reached: its tenant's own for the same period is not larger",
    ),
}


@pytest.mark.parametrize(("old", "new", "says"), WARNINGS.values(), ids=WARNINGS.keys())
def test_what_is_hardly_meant_is_warned_of(tmp_path: Path, old: str, new: str, says: str) -> None:
    other = ROUTER[ROUTER.index("    parameters_billion") : ROUTER.index("pools:")]
    router = ROUTER.replace(old, new, 1).replace(
        "pools:\n", f"  other:\n{other}pools:\n" if "other" in new else "pools:\n"
    )
    (warning,) = loaded(write(tmp_path, router)).warnings
    assert says in str(warning)
    assert "/router.yaml:" in str(warning)


def test_the_fleet_is_what_the_file_says(tmp_path: Path) -> None:
    config = loaded(write(tmp_path))
    tiny, big, bought = config.backends
    assert [replica.id for replica in tiny.replicas] == ["tiny/1", "second"]
    assert (tiny.pool.name, tiny.pool.billing, tiny.engine) == ("central", Billing.LEASED, EngineKind.VLLM)
    assert (tiny.model, tiny.served_model, tiny.tier, tiny.context_tokens) == ("llama-8b", "llama-8b", "small", 8192)
    assert Capability.TOOLS in tiny.capabilities
    assert big.replicas[0].url == "http://10.0.0.3:8000"
    assert (bought.pool.rtt_seconds, bought.profile, bought.engine) == (0.1, "", EngineKind.OPENAI)
    assert bought.replicas[0].api_key == "a secret of the cloud"
    assert config.profiles["engine"].kv_capacity_tokens == (80 * 9 - 80) * 10**8 // 131072
    assert hourly_nanousd(config, "big") == 3_600_000_000
    assert config.paths == (tmp_path / "router.yaml", tmp_path / "prices.yaml")


def test_a_classifier_of_your_own_is_read_and_watched(tmp_path: Path) -> None:
    shipped_one = Classifier.load().learned
    calibration = replace(shipped_one.calibration, small_suffices=(-50.0, 0.0))
    replace(shipped_one, calibration=calibration).save(tmp_path / "ours.npz")
    path = write(tmp_path, ROUTER + "classifier: ours.npz\n")
    assert loaded(path).classifier.predict(Prompt("hello")).small_suffices == pytest.approx(0.0)
    assert loaded(path).paths[2:] == (tmp_path / "ours.npz",)
    assert loaded(write(tmp_path)).classifier == Classifier.load()


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot be read (No such file or directory)"), (b"no arrays", "is not a classifier")]
)
def test_a_classifier_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "ours.npz").write_bytes(content)
    path = write(tmp_path, ROUTER + "classifier: ours.npz\n")
    with pytest.raises(ConfigRefused) as refusal:
        load(path, environ=ENVIRON, day=DAY)
    (told,) = str(refusal.value).splitlines()
    assert told.startswith(f"{path}:{ROUTER.count(chr(10)) + 1}:")
    assert says in told
    assert "`jeton train`" in told
    assert tmp_path / "ours.npz" in refusal.value.paths, "so that it is seen when it is mended"


def test_a_profile_may_name_a_model_and_a_gpu_instead_of_its_figures(tmp_path: Path) -> None:
    short = """\
    {model: llama-3.1-70b, gpu: h200, quantization: fp8, gpus: 2, chunk_tokens: 4096, kv_capacity_tokens: 500000,
     speculation: {draft_tokens: 3, acceptance_ratio: 0.8}}
"""
    profile = loaded(write(tmp_path, ROUTER.replace(FIGURES, short))).profiles["engine"]
    measured = shipped().named("llama-3.1-70b-fp8-h200-x2")
    assert profile == measured.model_copy(
        update={
            "chunk_tokens": 4096,
            "kv_capacity_tokens": 500_000,
            "speculation": Speculation(draft_tokens=3, acceptance_ratio=0.8, draft_seconds=0),
        }
    )


def test_a_backend_may_name_a_measured_profile_that_comes_with_jeton(tmp_path: Path) -> None:
    router = ROUTER.replace("profile: engine", "profile: llama-3.1-70b-fp8-h200", 1)
    config = loaded(write(tmp_path, router))
    assert config.profiles["llama-3.1-70b-fp8-h200"] == shipped().named("llama-3.1-70b-fp8-h200")
    assert config.backends[0].profile == "llama-3.1-70b-fp8-h200"


def test_a09_the_same_files_give_equal_prices_and_an_edited_row_another_id(tmp_path: Path) -> None:
    first, again = loaded(write(tmp_path)), loaded(write(tmp_path))
    assert first.prices == again.prices
    edited = loaded(write(tmp_path, prices=PRICES.replace("3.60", "3.61")))
    assert edited.prices["tiny"].price_id != first.prices["tiny"].price_id
    assert edited.prices["bought"] == first.prices["bought"]


def test_the_secrets_of_backends_are_in_no_repr(tmp_path: Path) -> None:
    assert "a secret of the cloud" not in repr(loaded(write(tmp_path)))


@pytest.mark.parametrize("name", ["router.yaml", "bench.yaml"])
def test_the_files_that_come_with_jeton_are_accepted_without_a_warning(name: str) -> None:
    config = load(DEPLOY / name, environ={"CLOUD_API_KEY": "anything"})
    assert config.warnings == ()


def test_the_benchmarks_key_is_let_in_by_its_hash_alone() -> None:
    config = load(DEPLOY / "bench.yaml", environ={})
    identity = ApiKeys(config.config.tenants, b"").authenticate([(b"authorization", b"Bearer sk-test")])
    assert identity.tenant == "bench"
    assert "sk-test" not in (DEPLOY / "bench.yaml").read_text()
