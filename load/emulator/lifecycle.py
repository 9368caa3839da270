"""What befalls a replica as a whole: SIGTERM, a frozen engine, sleep, pause. As recorded from vLLM 0.32.0.

    SERVING ── terminate(0) ──▶ ENGINE_DEAD ── 0.1 s ──▶ the port closes
       │
       └── terminate(N) ──▶ DRAINING ── work done, teardown ──▶ the port closes
                               │
                               └── N seconds, work left ──▶ HUNG: the port closes, what runs is never heard of again

`/health` answers 200 in every state in which the port is open. What must not live here: listening (the fleet's), and faults of
single requests (`faults.py`).
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

import orjson

from load.emulator.errors import DONE, ApiError, after_shutdown, engine_dead
from load.emulator.http import Exchange

if TYPE_CHECKING:
    from load.emulator.replica import Replica

# Between the engine's death and the API server's: 50 to 150 ms, recorded.
DYING_SECONDS = 0.1
# From the last answer of a drain to the closed port: the engine's own teardown, 1 to 6.6 s as recorded.
TEARDOWN_SECONDS = 1.0


class Phase(StrEnum):
    SERVING = "serving"
    ENGINE_DEAD = "engine_dead"
    DRAINING = "draining"
    HUNG = "hung"


class Lifecycle:
    """close_port is the fleet's: stop listening, let connections at work end. sleep_level: 0 when awake."""

    def __init__(self, replica: "Replica") -> None:
        self.phase = Phase.SERVING
        self.sleep_level = 0
        self.is_paused = False
        self.close_port: Callable[[], None] = lambda: None
        self._replica = replica
        self._timer: asyncio.TimerHandle | None = None
        self._quiet: list[Callable[[], None]] = []

    # ------------------------------------------------------------------ dying

    def terminate(self, timeout_seconds: float) -> None:
        """SIGTERM with `--shutdown-timeout`; 0 is vLLM's default, and also what the engine's own death looks like."""
        if timeout_seconds <= 0:
            self.phase = Phase.ENGINE_DEAD
            for generation in self._replica.generations:
                generation.kill()
            self._later(DYING_SECONDS, self._gone)
            return
        self.phase = Phase.DRAINING
        self._later(timeout_seconds, self._expired)
        self.work_ended()

    def work_ended(self) -> None:
        """A request is over. Told by the replica."""
        if self._replica.generations:
            return
        for callback in self._quiet:
            callback()
        self._quiet.clear()
        if self.phase is Phase.DRAINING:
            self._later(TEARDOWN_SECONDS, self._gone)

    def _expired(self) -> None:
        self.phase = Phase.HUNG
        self._replica.pump.freeze()
        self.close_port()

    def _gone(self) -> None:
        self.close_port()

    def answer_instead(self, exchange: Exchange) -> bool:
        """What a request for work gets from a replica that is dying. Returns whether it is dealt with."""
        if self.phase is Phase.SERVING:
            return False
        if self.phase is Phase.HUNG:
            return True  # and no byte, ever
        if self.phase is Phase.DRAINING and _has_token_ids(exchange):
            self._answer_aborted(exchange)
            return True
        error: ApiError = engine_dead() if self.phase is Phase.ENGINE_DEAD else after_shutdown()
        exchange.respond(error.status, self._replica.error_body(error, exchange.request.path))
        return True

    def _answer_aborted(self, exchange: Exchange) -> None:
        """The zombie's 200: a prompt of token ids needs no tokenizer, so it gets as far as an engine that takes no more."""
        body = orjson.loads(exchange.request.body)
        if body.get("stream"):
            exchange.start_stream()
            exchange.send(DONE)
            exchange.finish()
            return
        replica, prompt = self._replica, len(body["prompt"])
        choice: dict[str, object] = {
            "index": 0,
            "text": "",
            "logprobs": None,
            "finish_reason": "abort",
            "stop_reason": None,
        }
        choice |= dict.fromkeys(("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts"))
        usage: dict[str, object] = {"prompt_tokens": prompt, "total_tokens": prompt, "completion_tokens": 0}
        usage |= dict.fromkeys(("prompt_tokens_details", "completion_tokens_details"))
        value = {
            "id": f"cmpl-{exchange.request.headers.get('x-request-id', 'aborted')}",
            "object": "text_completion",
            "created": replica.created,
            "model": replica.spec.model,
            "choices": [choice],
            "service_tier": None,
            "system_fingerprint": replica.fingerprint,
            "usage": usage,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
        exchange.respond(200, orjson.dumps(value))

    # ------------------------------------------------------------------ standing still

    def freeze(self) -> None:
        """SIGSTOP of the engine: silence on streams, 200 on /health, gauges as they were."""
        self._replica.pump.freeze()

    def sleep(self, level: int) -> None:
        """What runs ends with finish_reason "abort", the prefix cache is lost, and what comes waits for `wake_up`."""
        self.abort()
        self._replica.pump.pause()
        self._replica.engine.forget_prefixes()
        self.sleep_level = level

    def wake_up(self) -> None:
        self.sleep_level = 0
        self._replica.pump.resume()

    def pause(self, mode: str, paused: Callable[[], None]) -> None:
        """keep: what runs goes on at `resume`; wait: it ends first; abort: it ends at once. paused is called when it is so."""
        self.is_paused = True
        if mode == "wait":
            self._replica.pump.pause(is_finishing=True)
            if self._replica.engine.running:
                self._quiet.append(paused)
                return
        else:
            if mode == "abort":
                self.abort()
            self._replica.pump.pause()
        paused()

    def resume(self) -> None:
        self.is_paused = False
        self._replica.pump.resume()

    def abort(self, names: frozenset[str] | None = None) -> None:
        """End these requests (by the id in their answers), or all, with what they have."""
        for generation in self._replica.generations:
            if names is None or generation.id in names:
                generation.cut_short()

    def restore(self) -> None:
        """As after a restart, but for what the caches hold."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.phase is not Phase.SERVING:
            for generation in self._replica.generations:
                generation.abort()
        self.phase = Phase.SERVING
        self.is_paused, self.sleep_level = False, 0
        self._replica.pump.thaw()
        self._replica.pump.resume()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, call)


def _has_token_ids(exchange: Exchange) -> bool:
    if exchange.request.path != "/v1/completions":
        return False
    try:
        prompt = orjson.loads(exchange.request.body).get("prompt")
    except (orjson.JSONDecodeError, AttributeError):
        return False
    return isinstance(prompt, list) and bool(prompt) and all(isinstance(token, int) for token in prompt)
