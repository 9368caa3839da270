"""What a closed-loop benchmark would measure of an engine: n clients, each with one request after the other.

In formulas, so that a fit can run through thousands of rows; `load/engine/` does the same in time. Pure. Only + − × ÷ and
absolute values, so that a column of many engines goes through the same lines as one does.
"""

from typing import Any, Generic, NamedTuple, TypeVar

from router.pricing.roofline import Coefficients

Q = TypeVar("Q")

# vLLM's token budget of a step on these GPUs; of TensorRT-LLM's and SGLang's nothing is known that is better.
CHUNK_TOKENS = 8192


class Bench(NamedTuple, Generic[Q]):
    """has_random_lengths: 1 or 0. prompt_steps: chunks that a prompt takes."""

    prompt_tokens: Q
    completion_tokens: Q
    concurrency: Q
    has_random_lengths: Q
    prompt_steps: Q


class Habits(NamedTuple, Generic[Q]):
    """How requests of a closed loop get in each other's way, by engine.

    random_burst, fixed_burst: prompts ahead of a request's own, per client, when lengths are random (clients drift apart; what
        remains is the start, where all come at once, a tenth of all requests) and when all are equal.
    fixed_group: of the prompts that fit one step, those that come together again and again when lengths are equal.
    interference: the share of others' prefill that falls into a request's decoding. SGLang prefills first: of clients in
        step, half of it comes before the first token.
    admitted_ratio: how much of their completion running sequences hold room for in a full cache, on average.
    request_seconds, request_token_seconds: what a request and each token of its prompt wait before they are scheduled. Far
        more than at a fixed rate (`request_live` of the profiles), and least with the newest engines.
    """

    random_burst: Q
    fixed_burst: Q
    fixed_group: Q
    interference: Q
    admitted_ratio: Q
    request_seconds: Q
    request_token_seconds: Q


def habit_terms(engine: str, engine_version: str) -> Habits[tuple[str, ...]]:
    """As `efficiency_terms`, of the benchmark."""

    def by_engine(name: str, *others: str) -> tuple[str, ...]:
        return (name, f"{name}_{engine}", *others)

    return Habits(
        by_engine("random_burst"),
        by_engine("fixed_burst"),
        by_engine("fixed_group"),
        by_engine("interference"),
        by_engine("admitted"),
        by_engine("request", f"request_{engine}_{engine_version}"),
        by_engine("request_token"),
    )


def step(c: Coefficients[Any], decoding: Any, context_tokens: Any, prefill_tokens: Any, prefill_pairs: Any) -> Any:
    """`EngineProfile.step_seconds` of a step that prefills, for columns."""
    return _step(c, decoding, context_tokens, prefill_tokens, prefill_pairs) + c.prefill_overhead_seconds


def measure(c: Coefficients[Any], kv_capacity_tokens: Any, bench: Bench[Any], habits: Habits[Any]) -> tuple[Any, Any]:
    """TTFT and TPOT, seconds, means."""
    prompt, completion = bench.prompt_tokens, bench.completion_tokens
    room = kv_capacity_tokens / (prompt + completion * habits.admitted_ratio)
    running = least(bench.concurrency, most(room, 1.0))
    context = running * (prompt + completion / 2)
    decode = _step(c, running, context, 0.0, 0.0)
    chunk = prompt / bench.prompt_steps
    prefill = bench.prompt_steps * step(c, running, context, chunk, chunk * prompt / 2)
    added = prefill - bench.prompt_steps * decode  # what one prompt adds to the steps of all others
    is_random = bench.has_random_lengths
    interference = is_random + (1 - is_random) * habits.interference
    tpot = decode + (running - 1) * added / completion * interference
    together = most(least(running, CHUNK_TOKENS / prompt) - 1, 0.0)
    wait = is_random * prefill * (running - 1) * habits.random_burst + (1 - is_random) * (
        prefill * (running - 1) * habits.fixed_burst + habits.fixed_group * together * added
    )
    request = habits.request_seconds + habits.request_token_seconds * prompt
    admitted = request + decode / 2 + prefill + wait
    # Whoever finds no room in the KV cache waits for it as long as the others take (Little's law).
    queue = (bench.concurrency - running) * (admitted + completion * tpot) / running
    return admitted + queue, tpot


def least(a: Any, b: Any) -> Any:
    return (a + b - abs(a - b)) / 2


def most(a: Any, b: Any) -> Any:
    return (a + b + abs(a - b)) / 2


def _step(c: Coefficients[Any], decoding: Any, context_tokens: Any, prefill_tokens: Any, prefill_pairs: Any) -> Any:
    tokens = decoding + prefill_tokens
    read = c.weight_read_seconds + c.expert_read_seconds * (1 - c.expert_miss_ratio**tokens)
    memory = read + c.kv_read_seconds_per_token * context_tokens
    compute = c.compute_seconds_per_token * tokens + c.attention_seconds_per_pair * prefill_pairs
    return c.step_overhead_seconds + c.sequence_seconds * decoding + c.token_seconds * tokens + most(memory, compute)
