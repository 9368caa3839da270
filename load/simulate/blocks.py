"""What the blocks of a prompt are called, so that the engines' prefix caches find what prompts have in common. Pure.

Names are Python's hashes of small tuples: other ones in every process, which changes nothing, for only whether two are the same
is asked.
"""

from collections.abc import Sequence

from load.simulate.attempt import Journey
from load.traces import Arrival


class BlockNames:
    """common_tokens: what all prompts of a tenant with a context begin with. block_tokens: the engines'; trace_block_tokens: the
    trace's."""

    def __init__(self, common_tokens: int, block_tokens: int, trace_block_tokens: int) -> None:
        self._common_blocks = common_tokens // block_tokens
        self._block_tokens = block_tokens
        self._trace_block_tokens = trace_block_tokens
        self._instructions: dict[str, Sequence[int]] = {}

    def of(self, journey: Journey, arrival: Arrival) -> Sequence[int]:
        """Of the prompt's whole blocks, each for all before it; tenants share none. Where the trace has no blocks, a session's
        text is one stretch that each turn has more of; prompts that share nothing else begin with the same instruction."""
        tenant, size = journey.request.tenant, self._block_tokens
        if not arrival.blocks and not arrival.session:
            return self._instruction(tenant) if journey.has_context else ()
        whole = arrival.prompt_tokens // size
        if arrival.blocks:
            ids, each = list(arrival.block_ids()), self._trace_block_tokens
            return [
                hash((tenant, ids[at * size // each], at * size % each))
                for at in range(min(whole, len(ids) * each // size))
            ]
        return [hash((tenant, journey.session[0].number, at)) for at in range(whole)]

    def _instruction(self, tenant: str) -> Sequence[int]:
        blocks = self._instructions.get(tenant)
        if blocks is None:
            blocks = self._instructions[tenant] = [hash((tenant, at)) for at in range(self._common_blocks)]
        return blocks
