"""What workers told late, as entries beside the charges: for every sum that people read.

A worker that was taken for dead came back, and said how an attempt ended that was closed as lost by then. Its charge stays as it
is, and so does every period that was closed. At the time at which this was booked two entries set it right: one takes back what
the lost charge said (what was expected, by the estimate made at dispatch), the other has what was so. Together they move the
money by `corrected_nanousd`, which is nothing on a leased replica, and out of what is lost if the attempt had served somebody.

Both follow from the row of the correction alone, so they outlive the charge when its month is pruned.
"""

from router.domain.attempt import AttemptStatus, CostStatus
from router.domain.fleet import Billing
from router.domain.request import AUDIO, AUDIO_TOKENS_PER_SECOND
from router.domain.usage import UsageSource
from router.ledger.rows import CHARGE_COLUMNS

UNKNOWN = "CAST(NULL AS BIGINT)"
# The lost charge's cost: unknown only where the cost is now, too.
_WAS = f"""
CASE WHEN cost_nanousd IS NULL AND corrected_nanousd = 0 THEN {UNKNOWN} ELSE coalesce(cost_nanousd, 0) - corrected_nanousd END
"""
_HEARD = f"""
CAST(CASE WHEN endpoint IN ({", ".join(f"'{endpoint}'" for endpoint in sorted(AUDIO))})
THEN prompt_tokens_estimate ELSE 0 END AS DOUBLE PRECISION) / {AUDIO_TOKENS_PER_SECOND}
"""
# As `lost_charge` has it (`router/accounting/charging.py`).
_TAKEN_BACK = {
    "ended_ns": "booked_ns",
    "first_token_ns": UNKNOWN,
    "status": f"'{AttemptStatus.LOST}'",
    "fault": "'router_died'",
    "http_status": "0",
    "prompt_tokens": "prompt_tokens_estimate",
    "cached_tokens": "0",
    "cache_write_tokens": "0",
    "completion_tokens": "completion_tokens_estimate",
    "reasoning_tokens": "0",
    "audio_seconds": _HEARD,
    "provider_cost_nanousd": UNKNOWN,
    "usage_source": f"'{UsageSource.ESTIMATED}'",
    "cost_status": f"CASE WHEN ({_WAS}) IS NULL THEN '{CostStatus.UNPRICED}' ELSE '{CostStatus.PRICED}' END",
    "cost_nanousd": _WAS,
    "standard_nanousd": f"CASE WHEN billing = '{Billing.METERED}' THEN {_WAS} END",
    "baseline_nanousd": UNKNOWN,
    "cost_prompt_nanousd": UNKNOWN,
    "cost_cached_nanousd": UNKNOWN,
    "standard_prompt_nanousd": UNKNOWN,
    "standard_cached_nanousd": UNKNOWN,
}
_ENTERED = {"ended_ns": "booked_ns"}


def _entries(changed: dict[str, str]) -> str:
    columns = ", ".join(f"{changed[name]} AS {name}" if name in changed else name for name in CHARGE_COLUMNS)
    return f"(SELECT seq, {columns} FROM corrections)"


# With the columns of `charges`, and the sign with which they count. They ended when they were booked.
ENTRIES = ((1, f"{_entries(_ENTERED)} AS entered"), (-1, f"{_entries(_TAKEN_BACK)} AS taken_back"))
