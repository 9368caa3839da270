"""`/metrics` against the recording: names, types, label names; and values against the engine's own."""

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from load.emulator import QUICK, EmulatedFleet, ReplicaSpec
from router.pricing.profile import Speculation

RECORDED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "recorded" / "metrics.json").read_text())
# Of the process that serves, not of vLLM.
PROCESS_ONLY = {"process_virtual_memory_bytes", "process_open_fds", "process_max_fds"}


async def scrape(spec: ReplicaSpec, asks: int = 3) -> tuple[str, int]:
    async with EmulatedFleet.start([spec]) as fleet, httpx.AsyncClient() as client:
        url = fleet.replicas[0].url
        for number in range(asks):
            body = {"messages": [{"role": "user", "content": f"hello {number}"}], "max_tokens": 5, "ignore_eos": True}
            assert (await client.post(f"{url}/v1/chat/completions", json=body)).status_code == 200
        answer = await client.get(f"{url}/metrics")
        assert answer.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
        return answer.text, fleet.replicas[0].engine.counters.prompt_tokens


async def test_families_types_and_labels_are_vllms() -> None:
    text, _ = await scrape(ReplicaSpec(model="tiny"))
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    expected = {name: family["type"] for name, family in RECORDED.items() if name not in PROCESS_ONLY}
    assert types == expected
    labels: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, told = re.fullmatch(r"([^{ ]+)(\{.*\})? \S+", line).groups()  # type: ignore[union-attr]
            labels.setdefault(name, set()).update(re.findall(r'[{,](\w+)="', told or ""))
    for name, family in RECORDED.items():
        for sample, names in family["labels"]:
            if name == "vllm:cache_config_info":
                assert (
                    {"engine", "block_size", "num_gpu_blocks"} < labels[sample] < set(names)
                )  # the rest is not emulated
            elif name not in PROCESS_ONLY:
                assert labels[sample] == set(names), sample


async def test_the_text_can_be_parsed_and_its_values_are_the_engines() -> None:
    text, prompt_tokens = await scrape(ReplicaSpec(model='odd "name"\\'))
    samples = {
        (sample.name, sample.labels.get("finished_reason", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model_name", 'odd "name"\\') == 'odd "name"\\'
    }
    assert samples["vllm:generation_tokens_total", ""] == 15
    assert samples["vllm:prompt_tokens_total", ""] == prompt_tokens > 0
    assert samples["vllm:request_success_total", "length"] == 3
    assert samples["vllm:num_requests_running", ""] == samples["vllm:num_requests_waiting", ""] == 0
    assert samples["vllm:time_to_first_token_seconds_count", ""] == 3
    assert samples["vllm:inter_token_latency_seconds_count", ""] == 3 * 4
    assert samples["vllm:request_generation_tokens_sum", ""] == 15


async def test_an_engine_that_speculates_says_how_well() -> None:
    speculation = Speculation(draft_tokens=4, acceptance_ratio=0.7, draft_seconds=1e-4)
    text, _ = await scrape(ReplicaSpec(profile=QUICK.model_copy(update={"speculation": speculation})))
    values = dict(re.findall(r"^vllm:spec_decode_num_(\w+)_total\{.*\} (\S+)$", text, re.M))
    assert float(values["draft_tokens"]) == 4 * float(values["drafts"]) > 0
    assert float(values["accepted_tokens"]) == 3 * 4 - float(values["drafts"])


async def test_steps_that_a_late_loop_has_missed_are_counted_before_an_abort() -> None:
    async with EmulatedFleet.start([ReplicaSpec()]) as fleet, httpx.AsyncClient() as client:
        replica = fleet.replicas[0]
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4000, "ignore_eos": True, "stream": True}
        async with client.stream("POST", f"{replica.url}/v1/chat/completions", json=body) as answer:
            await anext(answer.aiter_bytes())
            time.sleep(0.05)  # noqa: ASYNC251 — the loop is late, with some 15 steps due
            (generation,) = replica.generations
            generation.abort()
        text = (await client.get(f"{replica.url}/metrics")).text
        steps = re.search(r"^vllm:iteration_tokens_total_count\{.*\} (\S+)$", text, re.M)
        assert steps is not None
        assert float(steps[1]) >= replica.engine.counters.steps - 1 > 10
