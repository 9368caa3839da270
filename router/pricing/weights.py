"""What an attempt takes up of an engine step in a typical batch while it prefills and while it decodes.

This is for the price of a class of tokens and for a worker's estimates, of a replica that is known by numbers alone. What an
attempt is metered with comes from `weigher.py`, which knows who else is there at each of its events.

Both phases are measured in the time the step's resources are taken up, which is what makes the ratio of output to input right
at any concurrency: alone, a decoding attempt pays for the whole step; in a batch it pays for its share of the weights read.
"""

from router.pricing.profile import EngineProfile

# Weights divide a bill (`meter.py`); they are in 2⁻¹⁰ of a nanosecond of a step to be whole numbers, and this is 18 minutes: no
# step takes as long. The meter's bound on its residue needs a bound on weights.
WEIGHT_MAX = 2**50


def prefill_step_seconds(profile: EngineProfile, uncached_prompt_tokens: float) -> float:
    """What the prompt tokens that one step can hold take of it: c · min(prompt, chunk), and what a step costs more for
    prefilling at all. 0 for a prompt that is all cached."""
    if uncached_prompt_tokens <= 0:
        return 0.0
    tokens = min(uncached_prompt_tokens, profile.chunk_tokens)
    return profile.prompt_token_seconds * tokens + profile.prefill_overhead_seconds


def decode_step_seconds(profile: EngineProfile, context_tokens: float, completion_tokens: float) -> float:
    """One sequence's part of a decode step: w/n + k·context + c.

    w is what a step takes whoever is in it, its overhead and the read of the weights (of the experts, those that the batch
    touches), shared by the n sequences of a typical batch (`sequences_target`); k the read of one token of its own KV, over
    a context that grows from the prompt by the expected completion, half of it on average; c what its one token costs.
    """
    return profile.target_share_seconds + profile.kv_read_seconds_per_token * (context_tokens + completion_tokens / 2)
