"""`GET /metrics` as vLLM 0.32 was recorded: names, types, labels and buckets; the values follow the emulated engine.

What vLLM exports for features that are not emulated (external caches, multi-modal caches, sleep) is there with its resting
value. What must not live here: scheduling, HTTP.
"""

import bisect
import gc
import platform
import resource
import time
from collections.abc import Iterable, Mapping, Sequence

from load.emulator.metrics_families import (
    BUCKETS_HTTP,
    BUCKETS_HTTP_HIGH,
    COUNTERS_AT_REST,
    FINISH_REASONS,
    HELP,
    HISTOGRAMS,
)
from load.engine import Engine, EngineSequence, Step

CONTENT_TYPE = "text/plain; version=1.0.0; charset=utf-8"


class Histogram:
    """Counts per bucket, cumulative only when written."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def lines(self, name: str, labels: Mapping[str, str]) -> Iterable[str]:
        total = 0
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            total += count
            yield f"{name}_bucket{_labels({**labels, 'le': bound})} {float(total)}"
        yield f"{name}_count{_labels(labels)} {float(total)}"
        yield f"{name}_sum{_labels(labels)} {float(self.sum)}"


class HttpTally:
    """What prometheus-fastapi-instrumentator counts for one handler and method."""

    __slots__ = ("duration", "request_bytes", "response_bytes", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.request_bytes = 0
        self.response_bytes = 0
        self.duration = Histogram(BUCKETS_HTTP)


class Metrics:
    """What one replica has counted. `rejected` is kept by whoever refuses at the door."""

    def __init__(self, engine: Engine, model: str) -> None:
        self.rejected = 0
        self.created_seconds = time.time()
        self._engine = engine
        self._labels = {"engine": "0", "model_name": model}
        self._finished = dict.fromkeys(FINISH_REASONS, 0)
        self._histograms = {name: Histogram(bounds) for name, bounds in HISTOGRAMS.items()}
        self._http: dict[tuple[str, str], HttpTally] = {}
        self._http_high = Histogram(BUCKETS_HTTP_HIGH)

    def stepped(self, step: Step) -> None:
        """An engine step has ended."""
        self._histograms["vllm:iteration_tokens_total"].observe(step.prefill_tokens + step.completion_tokens)
        gaps = sum(sequence.produced_tokens > 1 for sequence in step.progressed)
        if gaps:
            self._histograms["vllm:inter_token_latency_seconds"].observe(step.ended_seconds - step.began_seconds, gaps)

    def finished(self, sequence: EngineSequence, reason: str, params_max_tokens: int) -> None:
        """A sequence came to its end by itself; what a disconnect aborts is in no counter, as recorded."""
        self._finished["stop" if reason == "tool_calls" else reason] += 1
        arrived = sequence.arrived_seconds
        ended = sequence.ended_seconds or arrived
        admitted = sequence.admitted_seconds or arrived
        first = sequence.first_token_seconds or ended
        per_token = (ended - first) / (sequence.produced_tokens - 1) if sequence.produced_tokens > 1 else 0.0
        values: dict[str, float] = {
            "request_prompt_tokens": sequence.prompt_tokens,
            "request_generation_tokens": sequence.produced_tokens,
            "request_params_max_tokens": params_max_tokens,
            "time_to_first_token_seconds": first - arrived,
            "request_time_per_output_token_seconds": per_token,
            "e2e_request_latency_seconds": ended - arrived,
            "request_queue_time_seconds": admitted - arrived,
            "request_inference_time_seconds": ended - admitted,
            "request_prefill_time_seconds": first - admitted,
            "request_decode_time_seconds": ended - first,
            "request_num_preemptions": sequence.preemptions,
            "request_prefill_kv_computed_tokens": sequence.prompt_tokens - sequence.cached_tokens,
        }
        for name, value in values.items():
            self._histograms[f"vllm:{name}"].observe(value)

    def request_over(self, generation_tokens_max: int, params_n: int) -> None:
        """All choices of a request have come to their end: counted once, however many there were."""
        self._histograms["vllm:request_max_num_generation_tokens"].observe(generation_tokens_max)
        self._histograms["vllm:request_params_n"].observe(params_n)

    def answered(
        self, handler: str, method: str, status: int, request_bytes: int, response_bytes: int, seconds: float
    ) -> None:
        """An HTTP request was answered, by a known path or by none."""
        tally = self._http.setdefault((handler, method), HttpTally())
        group = f"{status // 100}xx"
        tally.statuses[group] = tally.statuses.get(group, 0) + 1
        tally.request_bytes += request_bytes
        tally.response_bytes += response_bytes
        tally.duration.observe(seconds)
        self._http_high.observe(seconds)

    # ------------------------------------------------------------------ text

    def text(self, *, sleep_level: int = 0) -> bytes:
        """sleep_level: of `/sleep`, 0 when awake."""
        return ("\n".join(self._lines(sleep_level)) + "\n").encode()

    def _lines(self, sleep_level: int) -> Iterable[str]:
        yield from self._process()
        labels = self._labels
        engine, counters = self._engine, self._engine.counters
        for name in COUNTERS_AT_REST[:3]:
            yield from self._counter(name, {"": 0})
        yield from _family("vllm:num_requests_running", "gauge", [(labels, engine.running)])
        yield from _family("vllm:num_requests_waiting", "gauge", [(labels, engine.waiting)])
        reasons = [({**labels, "reason": "capacity"}, engine.waiting), ({**labels, "reason": "deferred"}, 0)]
        yield from _family("vllm:num_requests_waiting_by_reason", "gauge", reasons)
        sleep = [
            ({**labels, "sleep_state": state}, float(level == sleep_level))
            for level, state in enumerate(("awake", "weights_offloaded", "discard_all"))
        ]
        yield from _family("vllm:engine_sleep_state", "gauge", sleep)
        yield from _family("vllm:kv_cache_usage_perc", "gauge", [(labels, engine.kv_usage_ratio)])
        yield from self._counter("vllm:prefix_cache_queries", {"": counters.prefix_queries})
        yield from self._counter("vllm:prefix_cache_hits", {"": counters.prefix_hits})
        for name in COUNTERS_AT_REST[3:]:
            yield from self._counter(name, {"": 0})
        yield from self._counter("vllm:num_preemptions", {"": counters.preemptions})
        yield from self._speculation()
        yield from self._counter("vllm:prompt_tokens", {"": counters.prompt_tokens})
        sources = {
            "local_compute": counters.prompt_tokens - counters.cached_tokens,
            "local_cache_hit": counters.cached_tokens,
            "external_kv_transfer": 0,
        }
        yield from self._counter("vllm:prompt_tokens_by_source", sources, "source")
        yield from self._counter("vllm:prompt_tokens_cached", {"": counters.cached_tokens})
        tiers = {"device": counters.prefix_hits, "host": 0, "p2p": 0, "disk": 0, "external_unspecified": 0}
        yield from self._counter("vllm:prompt_tokens_cached_by_source", tiers, "source")
        yield from self._counter("vllm:generation_tokens", {"": counters.completion_tokens})
        yield from self._counter("vllm:request_success", self._finished, "finished_reason")
        rejections = {"max_num_queued_reqs": self.rejected, "max_num_queued_tokens": 0}
        model_alone = {"model_name": labels["model_name"]}
        yield from self._counter("vllm:admission_rejections", rejections, "reason", model_alone)
        for name, histogram in self._histograms.items():
            yield f"# HELP {name} {HELP[name]}"
            yield f"# TYPE {name} histogram"
            yield from histogram.lines(name, labels)
            yield from self._created(name, [labels])
        cache = {
            "engine": labels["engine"],  # this family alone has no model_name
            "block_size": str(engine.block_tokens),
            "cache_dtype": "auto",
            "enable_prefix_caching": str(engine.has_prefix_cache),
            "kv_cache_size_tokens": str(engine.sequence_tokens_max),
            "num_gpu_blocks": str(engine.blocks.capacity),
        }
        yield from _family("vllm:cache_config_info", "gauge", [(cache, 1)])
        yield from self._http_lines()

    def _speculation(self) -> Iterable[str]:
        """vLLM's families of speculative decoding, which are there only where it is on."""
        speculation, counters = self._engine.profile.speculation, self._engine.counters
        if speculation is None:
            return
        drafts = counters.draft_rounds
        yield from self._counter("vllm:spec_decode_num_drafts", {"": drafts})
        yield from self._counter("vllm:spec_decode_num_draft_tokens", {"": drafts * speculation.draft_tokens})
        yield from self._counter("vllm:spec_decode_num_accepted_tokens", {"": counters.accepted_tokens})

    def _process(self) -> Iterable[str]:
        stats = gc.get_stats()
        for name, key in (
            ("objects_collected", "collected"),
            ("objects_uncollectable", "uncollectable"),
            ("collections", "collections"),
        ):
            rows = [({"generation": str(generation)}, stat[key]) for generation, stat in enumerate(stats)]
            yield from _family(f"python_gc_{name}_total", "counter", rows)
        version = platform.python_version()
        major, minor, patch = platform.python_version_tuple()
        info = {
            "implementation": platform.python_implementation(),
            "major": major,
            "minor": minor,
            "patchlevel": patch,
            "version": version,
        }
        yield from _family("python_info", "gauge", [(info, 1)])
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield from _family("process_resident_memory_bytes", "gauge", [({}, usage.ru_maxrss * 1024)])
        yield from _family("process_start_time_seconds", "gauge", [({}, self.created_seconds)])
        yield from _family("process_cpu_seconds_total", "counter", [({}, usage.ru_utime + usage.ru_stime)])

    def _counter(
        self, name: str, values: Mapping[str, float], label: str = "", labels: Mapping[str, str] | None = None
    ) -> Iterable[str]:
        """A counter and its `_created` companion, by the values of one label or without."""
        base = self._labels if labels is None else labels
        rows = [({**base, label: key} if label else base, value) for key, value in values.items()]
        yield from _family(f"{name}_total", "counter", rows)
        yield from self._created(name, [row for row, _ in rows], HELP.get(f"{name}_total", ""))

    def _created(self, name: str, rows: Iterable[Mapping[str, str]], text: str | None = None) -> Iterable[str]:
        yield f"# HELP {name}_created {HELP[name] if text is None else text}"
        yield f"# TYPE {name}_created gauge"
        for labels in rows:
            yield f"{name}_created{_labels(labels)} {self.created_seconds}"

    def _http_lines(self) -> Iterable[str]:
        tallies = self._http
        rows = [
            ({"handler": handler, "method": method, "status": status}, count)
            for (handler, method), tally in tallies.items()
            for status, count in tally.statuses.items()
        ]
        yield from _family("http_requests_total", "counter", rows)
        yield from self._created("http_requests", [labels for labels, _ in rows], HELP["http_requests_total"])
        for name in ("request", "response"):
            family = f"http_{name}_size_bytes"
            by_handler: dict[str, tuple[int, int]] = {}
            for (handler, _), tally in tallies.items():
                count, size = by_handler.get(handler, (0, 0))
                by_handler[handler] = (count + sum(tally.statuses.values()), size + getattr(tally, f"{name}_bytes"))
            yield f"# HELP {family} {HELP[family]}"
            yield f"# TYPE {family} summary"
            for handler, (count, size) in by_handler.items():
                yield f"{family}_count{_labels({'handler': handler})} {float(count)}"
                yield f"{family}_sum{_labels({'handler': handler})} {float(size)}"
            yield from self._created(family, [{"handler": handler} for handler in by_handler])
        family = "http_request_duration_highr_seconds"
        yield f"# HELP {family} {HELP[family]}"
        yield f"# TYPE {family} histogram"
        yield from self._http_high.lines(family, {})
        yield from self._created(family, [{}])
        family = "http_request_duration_seconds"
        yield f"# HELP {family} {HELP[family]}"
        yield f"# TYPE {family} histogram"
        for (handler, method), tally in tallies.items():
            yield from tally.duration.lines(family, {"handler": handler, "method": method})
        yield from self._created(family, [{"handler": handler, "method": method} for handler, method in tallies])


def _family(name: str, kind: str, rows: Iterable[tuple[Mapping[str, str], float]]) -> Iterable[str]:
    yield f"# HELP {name} {HELP.get(name, name)}"
    yield f"# TYPE {name} {kind}"
    for labels, value in rows:
        yield f"{name}{_labels(labels)} {float(value)}"


def _labels(labels: Mapping[str, str]) -> str:
    """Label sets as prometheus-client writes them: names in alphabetical order, values escaped."""
    if not labels:
        return ""
    escaped = (
        (name, labels[name].replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")) for name in sorted(labels)
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
