"""The commands of the load laboratory. `jeton` finds them by the entry-point group `jeton.commands`.

`python -m load emulate …` is the same as `jeton emulate …`.
"""

import asyncio
import json
import signal
from typing import Any

import click

from load.drive.command import drive_command
from load.emulator.kinds import ANSWER_KINDS
from load.emulator.reply import Style
from load.emulator.spec import Dialect, Kind, ReplicaSpec
from load.engine import BLOCK_TOKENS
from load.profiles import profile_label, profile_named, profiles_in
from load.record import record
from load.scenarios.command import scenarios
from load.simulate.command import compare, simulate
from router.pricing.profile import EngineProfile, Speculation

# Of drafted tokens, where --speculative-config does not say.
ACCEPTANCE_RATIO = 0.7
DEFAULT_PROFILE = "h100-llama-3.1-8b-fp8"


@click.group("load")
def main() -> None:
    """The load laboratory: emulate servers, drive traffic at them, compare policies in dollars."""


main.add_command(drive_command)
main.add_command(compare)
main.add_command(simulate)
main.add_command(scenarios)
main.add_command(record)


@main.command()
@click.option(
    "--profile", default=DEFAULT_PROFILE, show_default=True, help="A built-in profile, or FILE.yaml, or FILE.yaml:NAME."
)
@click.option("--list-profiles", is_flag=True, help="Print the built-in profiles and leave.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Of the first replica.")
@click.option("--replicas", type=click.IntRange(1, 1000), default=1, show_default=True, help="On consecutive ports.")
@click.option("--model", default=None, help="The model's name; the profile's when left out.")
@click.option("--served-model-name", multiple=True, help="Names clients use; the first is in the answers. Repeatable.")
@click.option(
    "--kind", type=click.Choice([kind.value for kind in Kind]), default=Kind.GENERATE.value, show_default=True
)
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    default=Dialect.VLLM.value,
    show_default=True,
    help="vLLM itself, or a provider: its paths, keys, shapes and errors.",
)
@click.option("--api-key", default=None, envvar="VLLM_API_KEY", help="Guards /v1/*, as vLLM's, or a dialect's paths.")
@click.option("--entra-token", default=None, help="What azure asks for in the place of its API key.")
@click.option("--access-key", default=None, metavar="ID:SECRET", help="With which bedrock wants requests signed.")
@click.option("--service-account", default=None, metavar="FILE", help="Whose assertions vertex gives tokens for.")
@click.option("--max-model-len", type=click.IntRange(1), default=32_768, show_default=True, help="Context, in tokens.")
@click.option("--max-num-seqs", type=click.IntRange(1), default=None, help="Sequences running at once.")
@click.option("--max-num-queued-reqs", type=click.IntRange(1), default=None, help="503 beyond so many at work.")
@click.option("--max-num-batched-tokens", type=click.IntRange(1), default=None, help="Tokens a step may hold.")
@click.option(
    "--scheduling-policy", type=click.Choice(["fcfs", "priority"]), default="fcfs", show_default=True, help="As vLLM's."
)
@click.option(
    "--block-size", type=click.IntRange(2), default=BLOCK_TOKENS, show_default=True, help="Tokens in a KV block."
)
@click.option(
    "--num-gpu-blocks-override", type=click.IntRange(1), default=None, help="KV blocks, instead of the profile's."
)
@click.option(
    "--speculative-config",
    default=None,
    help='JSON: "num_speculative_tokens", and, for there is no draft model, "acceptance_ratio" and "draft_seconds"; and'
    ' "acceptance_by_kind", such as {"code": 0.9, "structured": 0.95}, for kinds of answers that differ.',
)
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(0),
    default=0,
    show_default=True,
    help="Seconds that SIGTERM leaves to work.",
)
@click.option("--startup-seconds", type=click.FloatRange(0), default=0, help="Refuse connections for so long at first.")
@click.option(
    "--cold-start-seconds",
    type=click.FloatRange(0),
    default=None,
    help="Stopped while nothing is asked; the first request waits so long.",
)
@click.option(
    "--idle-seconds",
    type=click.FloatRange(0, min_open=True),
    default=300,
    show_default=True,
    help="After which it stops.",
)
@click.option(
    "--dev-mode", is_flag=True, envvar="VLLM_SERVER_DEV_MODE", help="/sleep, /pause, /abort_requests and so on."
)
@click.option("--stream-interval", type=click.IntRange(1), default=1, show_default=True, help="Tokens per chunk.")
@click.option(
    "--time-factor", type=click.FloatRange(0, min_open=True), default=1.0, show_default=True, help="2: twice as fast."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other answers.")
@click.option(
    "--completion-tokens", type=click.FloatRange(1), default=160, show_default=True, help="Median answer length."
)
@click.option("--reasoning-share", type=click.FloatRange(0, 10), default=0.0, help="Tokens thought per token said.")
@click.option("--requests-per-minute", type=click.IntRange(1), default=None, help="429 with Retry-After beyond.")
@click.option("--multimodal", is_flag=True, help="Accept images.")
@click.option("--no-tool-call-parser", is_flag=True, help="Refuse tools, as vLLM does without --tool-call-parser.")
@click.option("--no-enable-prefix-caching", is_flag=True)
@click.option("--enable-prompt-tokens-details", is_flag=True)
@click.option("--enable-request-id-headers", is_flag=True)
@click.option("--enable-per-request-metrics", is_flag=True)
@click.option("--enable-server-load-tracking", is_flag=True)
def emulate(**options: Any) -> None:
    """Serve an emulated vLLM: its API, errors and /metrics, at the pace of an engine profile.

    Misbehaviour is switched on per replica over HTTP: POST /emulator/faults with a body such as {"stall_after_chunks": 3,
    "times": 1}; GET shows what is in force, DELETE clears it, ?replica=N reaches another replica of the process.

    \b
    Of the whole replica, for {"seconds": N} or until cleared:
      {"refuse": true}      connections are refused
      {"terminate": true, "shutdown_timeout": 15}
                            SIGTERM: the zombie that answers 200 on /health
                            and 500 on work; without the time-out: death
      {"api_death": true}   streams end in the middle, the port is shut
      {"freeze": true}      the engine stands still, /health does not
      {"asleep": 1}         as after /sleep
    Of requests, the next {"times": N} or all:
      {"hang": true}        not one byte
      {"status": 503, "retry_after": 2}
      {"reset_before_first_byte": true}   {"reset_after_chunks": 3}
      {"eof_after_chunks": 3}             {"stall_after_chunks": 3}
      {"stall_before_first_token": true}  {"engine_dead": true}
      {"abort_finish": true}              {"short_body": true}
      {"html": true}  {"empty": true}     {"non_json": true}
      {"content_filter": true}
      {"bad_sse": "bad_json"}             {"usage": "missing"}
    """
    if options["list_profiles"]:
        for name, profile in profiles_in().items():
            single = profile.step_seconds(1, 1000, 0)
            click.echo(
                f"{name:32} {1 / single:6.0f} tokens/s alone, {profile.kv_capacity_tokens:9,} tokens of KV cache"
            )
        return
    try:
        spec = spec_from(options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    import uvloop

    try:
        uvloop.run(serve([spec] * options["replicas"], options["host"], options["port"]))
    except OSError as error:
        raise click.ClickException(str(error)) from error


def spec_from(options: dict[str, Any]) -> ReplicaSpec:
    """What the options describe. Raises ValueError for an unknown profile, and for speculation that is not understood."""
    served = options["served_model_name"] or (options["model"] or profile_label(options["profile"]),)
    return ReplicaSpec(
        model=served[0],
        aliases=tuple(served[1:]),
        profile=_profile_from(options),
        kind=Kind(options["kind"]),
        dialect=Dialect(options["dialect"]),
        api_key=options["api_key"],
        entra_token=options["entra_token"],
        access_key=_access_key(options["access_key"]),
        service_account=options["service_account"],
        context_tokens=options["max_model_len"],
        sequences_max=options["max_num_seqs"],
        queued_max=options["max_num_queued_reqs"],
        shutdown_timeout_seconds=options["shutdown_timeout"],
        startup_seconds=options["startup_seconds"],
        cold_start_seconds=options["cold_start_seconds"],
        idle_seconds=options["idle_seconds"],
        is_by_priority=options["scheduling_policy"] == "priority",
        has_dev_mode=options["dev_mode"],
        block_tokens=options["block_size"],
        acceptance_by_kind=_acceptance_by_kind(options["speculative_config"]),
        time_factor=options["time_factor"],
        style=Style(
            seed=options["seed"],
            completion_tokens_median=options["completion_tokens"],
            reasoning_share=options["reasoning_share"],
        ),
        stream_interval=options["stream_interval"],
        requests_per_minute=options["requests_per_minute"],
        is_multimodal=options["multimodal"],
        has_tool_parser=not options["no_tool_call_parser"],
        has_prefix_cache=not options["no_enable_prefix_caching"],
        has_prompt_tokens_details=options["enable_prompt_tokens_details"],
        has_request_id_headers=options["enable_request_id_headers"],
        has_request_metrics=options["enable_per_request_metrics"],
        has_load_tracking=options["enable_server_load_tracking"],
    )


def _access_key(told: str | None) -> tuple[str, str] | None:
    """Raises ValueError for what is no pair."""
    if told is None:
        return None
    key_id, colon, secret = told.partition(":")
    if not (key_id and colon and secret):
        raise ValueError("--access-key is ID:SECRET")
    return key_id, secret


def _speculation_told(text: str) -> dict[str, Any]:
    """Raises ValueError for what is no JSON object."""
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("--speculative-config is a JSON object")
    return told


def _acceptance_by_kind(text: str | None) -> dict[str, float]:
    """Raises ValueError for what are no ratios by kinds of answers."""
    told = {} if text is None else _speculation_told(text).get("acceptance_by_kind", {})
    if not isinstance(told, dict) or not told.keys() <= ANSWER_KINDS:
        raise ValueError(f'"acceptance_by_kind" is an object whose members are among {", ".join(sorted(ANSWER_KINDS))}')
    if not all(isinstance(ratio, int | float) and 0 <= ratio <= 1 for ratio in told.values()):
        raise ValueError('"acceptance_by_kind" has ratios from 0 to 1')
    return told


def _profile_from(options: dict[str, Any]) -> EngineProfile:
    """The profile, with what vLLM's flags change of it."""
    changed: dict[str, Any] = {}
    if options["max_num_batched_tokens"] is not None:
        changed["chunk_tokens"] = options["max_num_batched_tokens"]
    if options["num_gpu_blocks_override"] is not None:
        changed["kv_capacity_tokens"] = options["num_gpu_blocks_override"] * options["block_size"]
    if options["speculative_config"] is not None:
        told = _speculation_told(options["speculative_config"])
        changed["speculation"] = Speculation(
            draft_tokens=told.get("num_speculative_tokens", 0),
            acceptance_ratio=told.get("acceptance_ratio", ACCEPTANCE_RATIO),
            draft_seconds=told.get("draft_seconds", 0.0),
        )
    return profile_named(options["profile"]).model_copy(update=changed)


async def serve(specs: list[ReplicaSpec], host: str, first_port: int) -> None:
    """Listen until SIGINT or SIGTERM, then end as vLLM does: at once, or with a shutdown time-out when the work is done (or
    its clients are gone); a second signal does not wait."""
    from load.emulator.fleet import EmulatedFleet

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopped.set)
    async with EmulatedFleet.start(specs, host=host, first_port=first_port) as fleet:
        for replica in fleet.replicas:
            click.echo(f"{replica.spec.model} at http://{host}:{replica.port}")
        await stopped.wait()
        if any(spec.shutdown_timeout_seconds for spec in specs):
            stopped.clear()
            waits = [asyncio.ensure_future(fleet.drained()), asyncio.ensure_future(stopped.wait())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()


if __name__ == "__main__":
    main()
