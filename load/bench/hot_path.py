"""What each step of a request costs, step by step in one process: `python -m load.bench.hot_path`.

Microseconds, the best of several runs: of each step alone, its caches warm, for telling which step a change made dearer; and of
all one after another, as a request does them, which is about twice the sum, because each finds the others' code in the caches.
What a request costs in all, sockets included, is for a load test from outside to tell.
"""

import sys
import tempfile
import timeit
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from router.access.keys import Identity, api_key_hash, new_api_key
from router.accounting.accountant import Accountant
from router.attempt import Attempt
from router.classify.classifier import Classifier
from router.clock import Clock
from router.config_file import load
from router.deployment import Deployment, deploy
from router.domain.attempt import AttemptFacts
from router.domain.budget import Budget, Period
from router.domain.fleet import EngineKind
from router.domain.request import Endpoint, InferenceRequest
from router.domain.usage import Usage
from router.fleet.state import Fleet
from router.ledger.budget import Budgets, Hold
from router.ledger.sqlite import SqliteLedger
from router.selection.affordable import affordable
from router.telemetry.metrics import Metrics
from router.wire.answers import read_answer
from router.wire.json_body import parse_object
from router.wire.outgoing import cache_salt, outgoing_body
from router.wire.parse import parse
from router.wire.streams import CompletionStream

STREAMED = "one streamed event"
WORST_CASES = "find candidates, for a tenant with a budget"
BUDGET = "a budget: what is left, hold, settle"
NOT_IN_EVERY_REQUEST = {STREAMED, WORST_CASES, BUDGET}
RUNS = 5
CALLS = 2000

CONFIG = """
baseline: mock
tenants: [{{name: bench, api_keys: [{{name: bench, hash: "{hash}"}}]}}]
profiles:
  h100: {{parameters_billion: 8.03, layers: 32, kv_bytes_per_token: 131072, weight_bytes_per_parameter: 1, memory_gb: 80,
         bandwidth_gb_per_second: 3350, tflops: 1978}}
pools:
  - name: bench
    kind: central
    billing: leased
    backends: [{{name: mock, model: mock, context_tokens: 8192, price: gpu, profile: h100, replicas: [{replicas}]}}]
"""
PRICES = "prices: {gpu: [{kind: lease, from: 2026-01-01, usd_per_hour: 3.60, source: the benchmark's own}]}"
QUESTION = "please explain how rainbows form in the sky " * 7
BODY = orjson.dumps(
    {
        "model": "mock",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": QUESTION},
        ],
        "max_tokens": 64,
    }
)
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "lorem ipsum dolor sit amet " * 12},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 64, "completion_tokens": 64, "total_tokens": 128},
    }
)
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[{"index":0,"delta":'
    b'{"content":" ass"},"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":15,'
    b'"total_tokens":17,"completion_tokens":2,"completion_tokens_details":null}}\n\n'
)


def main(replicas: int = 1) -> None:
    """replicas: of the one backend; candidates and ranking grow with them."""
    with tempfile.TemporaryDirectory() as directory:
        table = Table("step", "µs", title=f"one request, {replicas} replica(s)")
        steps = _steps(Path(directory), replicas)
        for step, call in steps:
            table.add_row(step, f"{_microseconds(call):.1f}")
        of_a_request = [call for step, call in steps if step not in NOT_IN_EVERY_REQUEST]
        table.add_section()
        table.add_row(
            "all but the last three, one after another",
            f"{_microseconds(lambda: [call() for call in of_a_request]):.1f}",
        )
        Console().print(table)


def _microseconds(call: Callable[[], object]) -> float:
    call()
    return min(timeit.repeat(call, number=CALLS, repeat=RUNS)) / CALLS * 1e6


def _steps(directory: Path, replicas: int) -> list[tuple[str, Callable[[], object]]]:
    key = new_api_key()
    deployment = _deployment(directory, key, replicas)
    headers = [
        (b"host", b"localhost"),
        (b"authorization", b"Bearer " + key.encode()),
        (b"user-agent", b"OpenAI/Python"),
    ]
    members = parse_object(BODY)
    parsed = parse(Endpoint.CHAT, members, deployment.bounds)
    identity = Identity("bench", "bench")
    request = InferenceRequest(
        "req_1",
        identity.tenant,
        identity.api_key_name,
        Endpoint.CHAT,
        "mock",
        False,
        parsed.prompt,
        parsed.needs,
        64,
        body_bytes=len(BODY),
    )
    classifier, fleet, clock = (
        Classifier.load(),
        Fleet(deployment.backends, deployment.tiers, deployment.rules),
        Clock(),
    )
    prediction = classifier.predict(parsed.prompt)
    scope = deployment.scopes.resolve("mock")

    def find() -> object:
        return deployment.finder.find(request, scope, fleet.snapshot, fleet.loads, prediction, fleet.clock())

    def find_budgeted() -> object:
        return deployment.finder.find(
            request, scope, fleet.snapshot, fleet.loads, prediction, fleet.clock(), are_holds_wanted=True
        )

    budgets = Budgets()
    budgets.configure([Budget("bench", "", Period.DAY, 10**15)], clock.now_ns())

    def budget() -> None:
        accounts = budgets.of("bench", "bench")
        affordable(candidates, budgets.allowance(accounts, clock.now_ns()), clock.now_ns(), Endpoint.CHAT)
        hold = budgets.reserve(accounts, 1000, clock.now_ns(), 10**12)
        assert isinstance(hold, Hold)
        budgets.settle(hold, 10, clock.now_ns())

    candidates, _ = deployment.finder.find(request, scope, fleet.snapshot, fleet.loads, prediction, fleet.clock())
    accountant = Accountant(SqliteLedger(directory / "ledger.sqlite"))
    accountant.set_fleet(deployment.backends, deployment.prices, deployment.profiles, clock.now_ns())
    metrics = Metrics(accountant, fleet)
    numbers = iter(range(10**9))

    def attempt() -> Attempt:
        candidate = candidates[0]
        request_id = f"req_{next(numbers):032x}"
        facts = AttemptFacts(
            f"{request_id}.1", request_id, 1, "bench", "bench", "chat", "mock", "bench", "mock", candidate.replica.id,
            "mock", "large", deployment.policies.default.name, "cheapest", "mock", "chat", 100, 64,
        )  # fmt: skip
        price = deployment.prices["mock"]
        made = Attempt(facts, candidate, price, fleet, accountant, clock.now_ns, request)
        made.succeed(Usage(64, 64), 0)
        return made

    charge = attempt().charge
    assert charge is not None
    stream = CompletionStream(
        endpoint=Endpoint.CHAT,
        model="mock",
        choices=1,
        context_tokens=8192,
        wants_usage=False,
        wants_continuous_usage=False,
        is_usage_continuous=True,
        cost_member=lambda _: b"",
    )
    salt = cache_salt("bench", None)
    return [
        ("authenticate", lambda: deployment.api_keys.authenticate(headers)),
        ("parse JSON", lambda: parse_object(BODY)),
        ("parse the request", lambda: parse(Endpoint.CHAT, members, deployment.bounds)),
        ("classify", lambda: classifier.predict(parsed.prompt)),
        ("find candidates", find),
        ("rank", lambda: deployment.policies.default.policy.rank(request, candidates)),
        ("books: open and close an attempt", attempt),
        (
            "encode for the backend",
            lambda: outgoing_body(
                members,
                endpoint=Endpoint.CHAT,
                engine=EngineKind.VLLM,
                served_model="mock",
                is_streaming=False,
                salt=salt,
            ),
        ),
        (
            "read a whole answer",
            lambda: read_answer(Endpoint.CHAT, ANSWER, model="mock", context_tokens=8192, choices=1),
        ),
        ("record", lambda: metrics.attempt(charge, overhead_seconds=0.0)),
        (WORST_CASES, find_budgeted),
        (BUDGET, budget),
        (STREAMED, lambda: stream.feed(EVENT)),
    ]


def _deployment(directory: Path, key: str, replicas: int) -> Deployment:
    urls = ", ".join(f'{{url: "http://127.0.0.1:{port}"}}' for port in range(9100, 9100 + replicas))
    config = directory / "router.yaml"
    config.write_text(CONFIG.format(hash=api_key_hash(key, b""), replicas=urls))
    (directory / "prices.yaml").write_text(PRICES)
    return deploy(load(config, environ={}), datetime.now(UTC).date())


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
