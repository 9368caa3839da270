"""The ledger's hours as rows of FOCUS 1.2, the FinOps Open Cost and Usage Specification (focus.finops.org).

One row a day (UTC) for every price, place, tenant, model, tier and outcome; cost of metered attempts by class of token, each a
meter of its own. What no attempt used is a row of its own and nobody's: idle time is not spread over tenants. What attempts
that cross the period's edges have of it is one more row. So

    Σ BilledCost = Σ EffectiveCost = the ledger's bill of the period, to the nano-dollar.

**Commitments** (`purchase: reserved`) are written as FOCUS has them: a recurring Purchase that is billed, and Usage rows of
BilledCost 0 whose EffectiveCost is the part Used or Unused.

**What was told late** of attempts that had been booked as lost restates the rows of the day on which it was booked. Where these
have less than is taken back, because the loss was booked on an earlier day, the row is negative and of ChargeClass Correction.

Attempts without a price have no row: their cost is not known, and a charge of 0 would say that it is. The report counts them.

Who stands where: ProviderName, PublisherName and InvoiceIssuerName are the pool, which is how capacity is bought here;
SubAccountId is the tenant; ResourceId the replica. How the rules are checked is `focus_rules.py`'s.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from operator import add
from typing import cast

from router.domain.fleet import Billing
from router.domain.money import usd_text
from router.domain.periods import HOURS_PER_DAY, Leased, Spent
from router.pricing.price import Purchase
from router.reporting.energy import LeaseTerms, hours_of
from router.reporting.focus_rules import PLACEHOLDERS

COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost",
    "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice",
    "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId",
    "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory",
    "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags",
    "x_Attempts", "x_Backend", "x_Basis", "x_CachedTokens", "x_CompletionTokens", "x_Model", "x_Outcome", "x_Pool",
    "x_PromptTokens", "x_ReasoningTokens", "x_StandardCost", "x_Tenant", "x_Tier",
)  # fmt: skip

Row = dict[str, str | None]
ZERO = usd_text(0)
HOURS = "Hours"
TOKENS_PER_UNIT = 1_000_000
# Quantities and unit prices are quotients: so many places that their product is the cost again, far below a nano-dollar.
QUANTUM = Decimal("1e-15")
NANOUSD = Decimal(10) ** 9

# Of a `Spent`: its hour and what it is by; sums follow.
KEYS = Spent._fields.index("attempts")
# What people have named.
NAMES = (
    "BillingAccountId", "BillingAccountName", "CommitmentDiscountId", "CommitmentDiscountName", "InvoiceIssuerName",
    "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "SkuId", "SubAccountId", "SubAccountName",
)  # fmt: skip
DYNAMIC = frozenset({Purchase.SPOT})


def focus_rows(
    spent: Iterable[Spent],
    leased: Iterable[Leased],
    terms: Mapping[str, LeaseTerms],
    regions: Mapping[str, str],
    *,
    first_hour: int,
    end_hour: int,
    account: str,
) -> Iterator[Row]:
    """All rows of whole hours. spent: by every member, in days; leased: in days. terms: by price id. regions: of pools."""
    writer = _Writer(terms, regions, first_hour, end_hour, account)
    yield from map(_told_from_nothing, map(_in_its_currency, _rows(writer, spent, leased)))


def restated(spent: Iterable[Spent], corrected: Iterable[Spent]) -> list[Spent]:
    """Both in one. What was told late restates the day on which it was booked; where that day has less than is taken back, the
    loss was booked on an earlier one, and the negative row stays, as a correction of that."""
    rows = {one[:KEYS]: one for one in spent}
    negative = []
    for one in sorted(corrected, key=_is_negative):
        before = rows.get(one[:KEYS])
        after = one if before is None else Spent._make((*one[:KEYS], *map(add, _amounts(before), _amounts(one))))
        if _is_negative(after):
            negative.append(one)
        else:
            rows[one[:KEYS]] = after
    return [*(one for one in rows.values() if any(one[KEYS:])), *negative]


def _amounts(one: Spent) -> tuple[int, ...]:
    return cast(tuple[int, ...], one[KEYS:])


def _is_negative(one: Spent) -> bool:
    return min(_amounts(one)) < 0


def _rows(writer: "_Writer", spent: Iterable[Spent], leased: Iterable[Leased]) -> Iterator[Row]:
    in_flight: defaultdict[tuple[int, str, str, str], int] = defaultdict(int)
    prices: dict[tuple[int, str, str, str], str] = {}
    for lease in leased:
        place = (lease.hour, lease.pool, lease.backend, lease.replica)
        in_flight[place] += lease.bill_nanousd - lease.idle_nanousd
        prices[place] = lease.price_id
        writer.learn_rate(lease)
        yield from writer.lease(lease)
    for one in spent:
        if one.billing == Billing.LEASED:
            if one.price_id:
                place = (one.hour, one.pool, one.backend, one.replica)
                in_flight[place] -= one.cost_nanousd
                prices.setdefault(place, one.price_id)
                yield writer.allocated(one) | _class_of(one)
        elif one.price_id:
            for row in writer.metered(one):
                yield row | _class_of(one)
    for place, nanousd in in_flight.items():
        if nanousd:
            yield writer.in_flight(Leased(*place, prices[place], 0, 0, 0), nanousd)


def _class_of(one: Spent) -> Row:
    return {"ChargeClass": "Correction"} if _is_negative(one) else {}


def _in_its_currency(row: Row) -> Row:
    """Prices are in the currency that is billed."""
    return row | {
        "PricingCurrency": row["BillingCurrency"],
        "PricingCurrencyContractedUnitPrice": row["ContractedUnitPrice"],
        "PricingCurrencyEffectiveCost": row["EffectiveCost"],
        "PricingCurrencyListUnitPrice": row["ListUnitPrice"],
    }


def _told_from_nothing(row: Row) -> Row:
    """A pool may be called `na`, for North America; by the specification that stands for no name at all."""
    return row | {name: f"{value} (name)" for name in NAMES if (value := row[name]) and value.lower() in PLACEHOLDERS}


class _Writer:
    def __init__(
        self, terms: Mapping[str, LeaseTerms], regions: Mapping[str, str], first_hour: int, end_hour: int, account: str
    ) -> None:
        self._terms = terms
        self._regions = regions
        self._first_hour = first_hour
        self._end_hour = end_hour
        self._account = account
        self._rates: dict[str, int] = {price_id: one.nanousd_per_hour for price_id, one in terms.items()}

    def learn_rate(self, lease: Leased) -> None:
        """A price that is not in the book any more: what an hour of it cost."""
        if lease.price_id not in self._rates and lease.leased_ns:
            self._rates[lease.price_id] = round(lease.bill_nanousd / hours_of(lease))

    def lease(self, lease: Leased) -> Iterator[Row]:
        """What a day of it has beside the attempts' shares: its idle time, and its purchase if it is a commitment."""
        one = self._terms.get(lease.price_id)
        if one is not None and one.purchase is Purchase.RESERVED:
            row = self._of_lease(lease, lease.bill_nanousd, "commitment", "Reserved capacity, paid whether used or not")
            quantity = row["PricingQuantity"]
            yield row | {
                "BilledCost": usd_text(lease.bill_nanousd),
                "ChargeCategory": "Purchase",
                "ChargeFrequency": "Recurring",
                "CommitmentDiscountQuantity": quantity,
                "CommitmentDiscountStatus": None,
                "ConsumedQuantity": None,
                "ConsumedUnit": None,
                "EffectiveCost": ZERO,
                "PricingCategory": "Standard",
                "ResourceId": one.name,
                "ResourceType": "Commitment",
            }
        if lease.idle_nanousd:
            row = self._of_lease(lease, lease.idle_nanousd, "idle", "Leased capacity that no request used")
            if row["CommitmentDiscountId"] is not None:
                row |= {
                    "CommitmentDiscountStatus": "Unused",
                    "ConsumedQuantity": None,
                    "ConsumedUnit": None,
                    "ResourceId": row["CommitmentDiscountId"],
                    "ResourceType": "Commitment",
                }
            yield row

    def in_flight(self, lease: Leased, nanousd: int) -> Row:
        return self._of_lease(
            lease, nanousd, "in_flight", "Run up in this period by requests that ended in another, less the reverse"
        )

    def allocated(self, one: Spent) -> Row:
        """A share of a lease."""
        lease = Leased(one.hour, one.pool, one.backend, one.replica, one.price_id, 0, 0, 0)
        return self._of_lease(
            lease, one.cost_nanousd, "allocated", f"{one.model}: share of a leased replica ({one.outcome})"
        ) | self._of_tenant(one) | {
            "x_Attempts": str(one.attempts),
            "x_PromptTokens": str(one.prompt_tokens),
            "x_CachedTokens": str(one.cached_tokens),
            "x_CompletionTokens": str(one.completion_tokens),
            "x_ReasoningTokens": str(one.reasoning_tokens),
            "x_StandardCost": usd_text(one.standard_nanousd),
        }  # fmt: skip

    def metered(self, one: Spent) -> Iterator[Row]:
        """Bought by the token: a row for each class, and one for what no tokens explain (audio, fees, nothing at all)."""
        uncached = one.prompt_tokens - one.cached_tokens
        rest = one.cost_nanousd - one.cost_prompt_nanousd - one.cost_cached_nanousd - one.cost_completion_nanousd
        is_first = True
        for meter, column, tokens, cost in (
            ("Prompt Tokens", "x_PromptTokens", uncached, one.cost_prompt_nanousd),
            ("Cached Prompt Tokens", "x_CachedTokens", one.cached_tokens, one.cost_cached_nanousd),
            ("Completion Tokens", "x_CompletionTokens", one.completion_tokens, one.cost_completion_nanousd),
        ):
            if not tokens:
                rest += cost
                continue
            row = self._by_token(one, meter, cost, Decimal(tokens) / TOKENS_PER_UNIT, f"{TOKENS_PER_UNIT} Tokens")
            row |= {"ConsumedQuantity": str(tokens), "ConsumedUnit": "Tokens", column: str(tokens)}
            if column == "x_CachedTokens":
                row["x_PromptTokens"] = str(tokens)  # cached tokens are a part of the prompt's, here as everywhere
            if column == "x_CompletionTokens":
                row["x_ReasoningTokens"] = str(one.reasoning_tokens)
            if is_first:
                row["x_Attempts"] = str(one.attempts)
            is_first = False
            yield row
        if rest or is_first:
            row = self._by_token(one, "Requests", rest, Decimal(one.attempts), "Requests")
            row |= {"ConsumedQuantity": str(one.attempts), "ConsumedUnit": "Requests"}
            yield row | ({"x_Attempts": str(one.attempts)} if is_first else {})

    def _by_token(self, one: Spent, meter: str, nanousd: int, quantity: Decimal, unit: str) -> Row:
        name, slug = one.price_id.rpartition("@")[0], meter.replace(" ", "")
        # A blended price: a provider's own figures and tiers by context length are in it.
        unit_price = _text((Decimal(nanousd) / NANOUSD / quantity).quantize(QUANTUM))
        cost = usd_text(nanousd)
        return self._row(one.hour, one.pool) | self._of_tenant(one) | {
            "BilledCost": cost,
            "ChargeDescription": f"{one.model}: {meter.lower()} ({one.outcome})",
            "ContractedCost": cost,
            "ContractedUnitPrice": unit_price,
            "EffectiveCost": cost,
            "ListCost": cost,
            "ListUnitPrice": unit_price,
            "PricingCategory": "Standard",
            "PricingQuantity": _text(quantity),
            "PricingUnit": unit,
            "ResourceId": one.replica,
            "ResourceType": "Metered endpoint",
            "SkuId": f"{name}/{slug}",
            "SkuMeter": meter,
            "SkuPriceId": f"{one.price_id}/{slug}",
            "x_Backend": one.backend,
            "x_Basis": "metered",
            "x_StandardCost": cost,
        }  # fmt: skip

    def _of_lease(self, lease: Leased, nanousd: int, basis: str, description: str) -> Row:
        """A Usage row of so much of a lease's money."""
        one = self._terms.get(lease.price_id)
        rate = self._rates.get(lease.price_id, 0)
        list_rate = one.list_nanousd_per_hour if one is not None else rate
        # Without a rate (a free lease, or none known) money itself is what is counted.
        quantity = (Decimal(nanousd) / rate).quantize(QUANTUM) if rate else Decimal(nanousd) / NANOUSD
        unit_price, list_price = (Decimal(rate) / NANOUSD, Decimal(list_rate) / NANOUSD) if rate else (Decimal(1),) * 2
        name = lease.price_id.rpartition("@")[0] or lease.price_id
        cost = usd_text(nanousd)
        row = self._row(lease.hour, lease.pool) | {
            "BilledCost": cost,
            "ChargeDescription": description,
            "ConsumedQuantity": _text(quantity),
            "ConsumedUnit": HOURS,
            "ContractedCost": cost,
            "ContractedUnitPrice": _text(unit_price),
            "EffectiveCost": cost,
            "ListCost": _text((list_price * quantity).quantize(Decimal("1e-9"))),
            "ListUnitPrice": _text(list_price),
            "PricingCategory": "Dynamic" if one is not None and one.purchase in DYNAMIC else "Standard",
            "PricingQuantity": _text(quantity),
            "PricingUnit": HOURS if rate else "US Dollars",
            "ResourceId": lease.replica,
            "ResourceType": "Leased replica",
            "SkuId": name,
            "SkuMeter": "Replica Hours",
            "SkuPriceId": lease.price_id,
            "x_Backend": lease.backend,
            "x_Basis": basis,
        }
        if one is not None and one.purchase is Purchase.RESERVED:
            row |= {
                "BilledCost": ZERO,
                "CommitmentDiscountCategory": "Usage",
                "CommitmentDiscountId": one.name,
                "CommitmentDiscountName": one.name,
                "CommitmentDiscountQuantity": row["PricingQuantity"],
                "CommitmentDiscountStatus": "Used",
                "CommitmentDiscountType": "Reserved lease",
                "CommitmentDiscountUnit": HOURS,
                "PricingCategory": "Committed",
            }
        return row

    def _of_tenant(self, one: Spent) -> Row:
        return {
            "SubAccountId": one.tenant or None,
            "SubAccountName": one.tenant or None,
            "Tags": json.dumps({"model": one.model, "tenant": one.tenant, "tier": one.tier}, separators=(",", ":")),
            "x_Model": one.model,
            "x_Outcome": one.outcome,
            "x_Tenant": one.tenant,
            "x_Tier": one.tier,
        }

    def _row(self, hour: int, pool: str) -> Row:
        """What every row of that day has."""
        day = hour // HOURS_PER_DAY * HOURS_PER_DAY
        start = max(day, self._first_hour)
        month = _moment(start).replace(day=1, hour=0)
        next_month = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        region = self._regions.get(pool) or None
        row: Row = dict.fromkeys(COLUMNS)
        return row | {
            "BillingAccountId": self._account,
            "BillingAccountName": self._account,
            "BillingCurrency": "USD",
            "BillingPeriodEnd": _time(next_month),
            "BillingPeriodStart": _time(month),
            "ChargeCategory": "Usage",
            "ChargeFrequency": "Usage-Based",
            "ChargePeriodEnd": _time(_moment(min(day + HOURS_PER_DAY, self._end_hour))),
            "ChargePeriodStart": _time(_moment(start)),
            "InvoiceIssuerName": pool,
            "ProviderName": pool,
            "PublisherName": pool,
            "RegionId": region,
            "RegionName": region,
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": "LLM inference",
            "ServiceSubcategory": "Generative AI",
            "x_Pool": pool,
        }


def _moment(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * 3600, UTC)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _text(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text
