"""What the blocks of a prompt are called, so that the engines' prefix caches find what prompts have in common. Pure.

Names are whole numbers of which only whether two are the same is asked. Those of a trace's blocks are its own numbers, each
tenant's in a range of its own, so that a run of blocks is named at once; the others are Python's hashes of small tuples.
"""

from collections.abc import Sequence

from load.simulate.attempt import Journey
from load.traces import Arrival

# A tenant's names of a trace's blocks: no trace has so many.
TENANT_BLOCKS = 1 << 48


class BlockNames:
    """common_tokens: what all prompts of a tenant with a context begin with. block_tokens: the engines'; trace_block_tokens: the
    trace's."""

    def __init__(self, common_tokens: int, block_tokens: int, trace_block_tokens: int) -> None:
        self._common_blocks = common_tokens // block_tokens
        self._block_tokens = block_tokens
        self._trace_block_tokens = trace_block_tokens
        self._instructions: dict[str, Sequence[int]] = {}
        self._bases: dict[str, int] = {}

    def of(self, journey: Journey, arrival: Arrival) -> Sequence[int]:
        """Of the prompt's whole blocks, each for all before it; tenants share none. Where the trace has no blocks, a session's
        text is one stretch that each turn has more of; prompts that share nothing else begin with the same instruction."""
        tenant, size = journey.request.tenant, self._block_tokens
        if not arrival.blocks and not arrival.session:
            return self._instruction(tenant) if journey.has_context else ()
        whole = arrival.prompt_tokens // size
        if arrival.blocks:
            return self._of_trace(tenant, arrival)[:whole]
        return [hash((tenant, journey.session[0].number, at)) for at in range(whole)]

    def _of_trace(self, tenant: str, arrival: Arrival) -> list[int]:
        """Each of the trace's blocks is named by its number; of those that make several, by that and a place in it."""
        size, each = self._block_tokens, self._trace_block_tokens
        base = self._bases.setdefault(tenant, len(self._bases) * TENANT_BLOCKS)
        names: list[int] = []
        if each % size == 0:
            parts = each // size
            for run in arrival.blocks:
                names += range(base + run.start * parts, base + run.stop * parts)
            return names
        ids = list(arrival.block_ids())
        return [base + ids[at * size // each] * each + at * size % each for at in range(len(ids) * each // size)]

    def _instruction(self, tenant: str) -> Sequence[int]:
        blocks = self._instructions.get(tenant)
        if blocks is None:
            blocks = self._instructions[tenant] = [hash((tenant, at)) for at in range(self._common_blocks)]
        return blocks
