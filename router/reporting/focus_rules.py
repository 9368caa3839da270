"""The rules of FOCUS 1.2 that a file of ours can break, checked on its text.

Each finding begins with the rule's number in the specification's own requirements model (version 1.2.0.1, which ships with
the FinOps Foundation's focus-validator). Where that model and the specification's prose differ the prose is followed:
CommitmentDiscountStatus is Used or Unused, which the model gives the values of another column, and null without a commitment,
where the model has the condition the wrong way round; InvoiceId is null while no invoice is known, which the model never
allows. Of our files focus-validator 2.2.1 finds these two, and nothing else (578 rules). Not checked is what cannot be
seen in a file (that an invoice has the same sum, that a price list exists).
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation

Text = str | None
Row = Mapping[str, Text]

STRING, DECIMAL, TIME, KEY_VALUE = "string", "decimal", "time", "key-value"

# Column: (type, may be null).
TYPES: Mapping[str, tuple[str, bool]] = {
    "BilledCost": (DECIMAL, False), "BillingAccountId": (STRING, False), "BillingAccountName": (STRING, False),
    "BillingCurrency": (STRING, False), "BillingPeriodEnd": (TIME, False), "BillingPeriodStart": (TIME, False),
    "ChargeCategory": (STRING, False), "ChargeClass": (STRING, True), "ChargeDescription": (STRING, False),
    "ChargeFrequency": (STRING, False), "ChargePeriodEnd": (TIME, False), "ChargePeriodStart": (TIME, False),
    "CommitmentDiscountCategory": (STRING, True), "CommitmentDiscountId": (STRING, True),
    "CommitmentDiscountName": (STRING, True), "CommitmentDiscountQuantity": (DECIMAL, True),
    "CommitmentDiscountStatus": (STRING, True), "CommitmentDiscountType": (STRING, True),
    "CommitmentDiscountUnit": (STRING, True), "ConsumedQuantity": (DECIMAL, True), "ConsumedUnit": (STRING, True),
    "ContractedCost": (DECIMAL, False), "ContractedUnitPrice": (DECIMAL, True), "EffectiveCost": (DECIMAL, False),
    "InvoiceId": (STRING, True), "InvoiceIssuerName": (STRING, False), "ListCost": (DECIMAL, False),
    "ListUnitPrice": (DECIMAL, True), "PricingCategory": (STRING, True), "PricingCurrency": (STRING, False),
    "PricingCurrencyContractedUnitPrice": (DECIMAL, True), "PricingCurrencyEffectiveCost": (DECIMAL, False),
    "PricingCurrencyListUnitPrice": (DECIMAL, True), "PricingQuantity": (DECIMAL, True),
    "PricingUnit": (STRING, True), "ProviderName": (STRING, False), "PublisherName": (STRING, False),
    "RegionId": (STRING, True), "RegionName": (STRING, True), "ResourceId": (STRING, True),
    "ResourceName": (STRING, True), "ResourceType": (STRING, True), "ServiceCategory": (STRING, False),
    "ServiceName": (STRING, False), "ServiceSubcategory": (STRING, False), "SkuId": (STRING, True),
    "SkuMeter": (STRING, True), "SkuPriceDetails": (KEY_VALUE, True), "SkuPriceId": (STRING, True),
    "SubAccountId": (STRING, True), "SubAccountName": (STRING, True), "Tags": (KEY_VALUE, True),
}  # fmt: skip
NUMERIC_CUSTOM = re.compile(r"x_\w+(Tokens|Attempts|Cost)")

ALLOWED: Mapping[str, tuple[str, frozenset[str]]] = {
    "ChargeCategory": ("ChargeCategory-C-003-M", frozenset({"Usage", "Purchase", "Tax", "Credit", "Adjustment"})),
    "ChargeClass": ("ChargeClass-C-005-C", frozenset({"Correction"})),
    "ChargeFrequency": ("ChargeFrequency-C-003-M", frozenset({"One-Time", "Recurring", "Usage-Based"})),
    "CommitmentDiscountCategory": ("CommitmentDiscountCategory-C-005-M", frozenset({"Spend", "Usage"})),
    "CommitmentDiscountStatus": ("CommitmentDiscountStatus-C-005-M", frozenset({"Used", "Unused"})),
    "PricingCategory": ("PricingCategory-C-007-M", frozenset({"Standard", "Committed", "Dynamic", "Other"})),
    # Of the service categories, the one that is ours.
    "ServiceCategory": ("ServiceCategory-C-003-M", frozenset({"AI and Machine Learning"})),
    "ServiceSubcategory": (
        "ServiceSubcategory-C-003-M",
        frozenset(
            {"AI Platforms", "Bots", "Generative AI", "Machine Learning", "Natural Language Processing",
             "Other (AI and Machine Learning)"}
        ),
    ),
}  # fmt: skip
NULL_TOGETHER = (
    ("CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountName-C-004-C"),
    ("CommitmentDiscountId", "CommitmentDiscountCategory", "CommitmentDiscountCategory-C-003-C"),
    ("CommitmentDiscountId", "CommitmentDiscountType", "CommitmentDiscountType-C-004-C"),
    ("CommitmentDiscountQuantity", "CommitmentDiscountUnit", "CommitmentDiscountUnit-C-005-C"),
    ("ConsumedQuantity", "ConsumedUnit", "ConsumedUnit-C-005-C"),
    ("PricingQuantity", "PricingUnit", "PricingUnit-C-005-C"),
    ("RegionId", "RegionName", "RegionName-C-004-C"),
    ("ResourceId", "ResourceType", "ResourceType-C-004-C"),
    ("SkuId", "SkuMeter", "SkuMeter-C-004-C"),
    ("SubAccountId", "SubAccountName", "SubAccountName-C-004-C"),
)
PRICED = (
    ("ContractedUnitPrice", "ContractedUnitPrice-C-006-C"), ("ListUnitPrice", "ListUnitPrice-C-005-C"),
    ("PricingCategory", "PricingCategory-C-004-C"), ("PricingQuantity", "PricingQuantity-C-005-C"),
    ("SkuId", "SkuId-C-005-C"), ("SkuPriceId", "SkuPriceId-C-005-C"),
)  # fmt: skip
PRODUCTS = (
    ("ContractedUnitPrice", "ContractedCost", "ContractedUnitPrice-C-011-C"),
    ("ListUnitPrice", "ListCost", "ListUnitPrice-C-010-C"),
)
ONE_PARENT = (
    ("SkuPriceId", "SkuId", "SkuPriceId-C-008-M"),
    ("ServiceName", "ServiceCategory", "ServiceName-C-005-C"),
    ("ServiceSubcategory", "ServiceCategory", "ServiceSubcategory-C-004-M"),
    ("CommitmentDiscountId", "CommitmentDiscountUnit", "CommitmentDiscountUnit-C-008-M"),
)

TIME_FORMAT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
NUMBER_FORMAT = re.compile(r"-?\d+(\.\d+)?(E-?\d+)?")
COLUMN_FORMAT = re.compile(r"[A-Z][A-Za-z0-9]{0,49}")
PLACEHOLDERS = frozenset({"", "na", "n/a", "none", "null", "not applicable", "unknown", "-"})
# Costs have nine places, so a product may be half a nano-dollar off, and quantities are cut far below that.
PRODUCT_USD_MAX = Decimal("1e-9")
FINDINGS_MAX = 50

RowRule = Callable[[Row, Mapping[str, Decimal]], Iterator[str]]


def broken_rules(columns: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """What is wrong, the first fifty: `<rule>: line n: what`. Empty when nothing is."""
    found = sorted(_columns(columns))
    if found:
        return found
    for line, row in enumerate(rows, 2):
        numbers: dict[str, Decimal] = {}
        for what in _formats(row, numbers):
            found.append(_at(line, what))
        if not found:
            for rule in ROW_RULES:
                found += [_at(line, what) for what in rule(row, numbers)]
        if len(found) >= FINDINGS_MAX:
            return found[:FINDINGS_MAX]
    return found or list(_whole(rows))


def _at(line: int, what: str) -> str:
    rule, _, text = what.partition(": ")
    return f"{rule}: line {line}: {text}"


def _columns(columns: Sequence[str]) -> Iterator[str]:
    own = [name for name in columns if not name.startswith("x_")]
    for name in TYPES.keys() - set(own):
        yield f"CostAndUsage-D: {name} is missing"
    for name in own:
        if name not in TYPES:
            yield f"ColumnHandling-A-010-M: {name} is not a FOCUS column; a custom one begins with x_"
    for name in columns:
        if COLUMN_FORMAT.fullmatch(name.removeprefix("x_")) is None:
            yield f"ColumnHandling-A-001-M: {name} is not PascalCase, or is too long"
    if list(columns[: len(own)]) != own:
        yield "ColumnHandling-A-013-O: custom columns stand between FOCUS columns"
    if len(set(columns)) != len(columns):
        yield "ColumnHandling-A-003-M: a column is there twice"


def _formats(row: Row, numbers: dict[str, Decimal]) -> Iterator[str]:
    for name, (kind, may_be_null) in TYPES.items():
        value = row[name]
        if value is None:
            if not may_be_null:
                yield f"{name}-C: {name} is null"
            continue
        yield from _checked(name, kind, value, numbers)
    for name, value in row.items():
        if value is not None and NUMERIC_CUSTOM.fullmatch(name):
            yield from _checked(name, DECIMAL, value, numbers)


def _checked(name: str, kind: str, value: str, numbers: dict[str, Decimal]) -> Iterator[str]:
    if kind == DECIMAL:
        try:
            numbers[name] = Decimal(value)
        except InvalidOperation:
            numbers[name] = Decimal(0)
        if NUMBER_FORMAT.fullmatch(value) is None:
            yield f"NumericFormat-A-003-M: {name} is `{value}`"
    elif kind == TIME:
        if TIME_FORMAT.fullmatch(value) is None:
            yield f"DateTimeFormat-A-003-M: {name} is `{value}`"
    elif kind == KEY_VALUE:
        yield from _key_values(name, value)
    elif value.strip().lower() in PLACEHOLDERS:
        yield f"NullHandling-A-002-M: {name} is `{value}`, which stands for nothing"
    if name in ALLOWED and value not in ALLOWED[name][1]:
        yield f"{ALLOWED[name][0]}: {name} is `{value}`"


def _key_values(name: str, value: str) -> Iterator[str]:
    try:
        pairs = json.loads(value, object_pairs_hook=list)
    except ValueError:
        pairs = None
    if not isinstance(pairs, list):
        yield f"KeyValueFormat-A-001-M: {name} is not a JSON object"
        return
    if len({key for key, _ in pairs}) != len(pairs):
        yield f"KeyValueFormat-A-002-M: {name} has a key twice"
    if any(isinstance(item, list | dict) for _, item in pairs):
        yield f"KeyValueFormat-A-004-M: {name} has an object or array inside"


def _times(row: Row, _: Mapping[str, Decimal]) -> Iterator[str]:
    start, end, month, next_month = (
        datetime.fromisoformat(str(row[name]))
        for name in ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd")
    )
    if not start < end:
        yield "ChargePeriodEnd-C-004-M: the charge's period is empty"
    if not month <= start < end <= next_month:
        yield "BillingPeriodStart-C-004-M: the charge is not inside its billing period"


def _currency(row: Row, _: Mapping[str, Decimal]) -> Iterator[str]:
    if re.fullmatch("[A-Z]{3}", str(row["BillingCurrency"])) is None:
        yield f"BillingCurrency-C-003-M: `{row['BillingCurrency']}` is not an ISO 4217 code"


def _nulls(row: Row, _: Mapping[str, Decimal]) -> Iterator[str]:
    for whole, part, rule in NULL_TOGETHER:
        if (row[whole] is None) != (row[part] is None):
            yield f"{rule}: one of {whole} and {part} is null, and the other is not"
    if row["ResourceName"] is not None and row["ResourceName"] == row["ResourceId"]:
        yield "ResourceName-C-006-C: ResourceName duplicates ResourceId"
    if row["SkuPriceId"] is None and row["SkuPriceDetails"] is not None:
        yield "SkuPriceDetails-C-004-C: details of no SKU price"


def _prices(row: Row, numbers: Mapping[str, Decimal]) -> Iterator[str]:
    is_priced = row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] != "Correction"
    for name, rule in PRICED:
        if is_priced and row[name] is None:
            yield f"{rule}: {name} is null on a {row['ChargeCategory']} row"
    for price, cost, rule in PRODUCTS:
        if price in numbers and numbers[price] < 0:
            yield f"{price}-C: {price} is negative"
        if is_priced and price in numbers and "PricingQuantity" in numbers:
            product = numbers[price] * numbers["PricingQuantity"]
            if abs(product - numbers[cost]) > PRODUCT_USD_MAX:
                yield f"{rule}: {price} × PricingQuantity is {product}, {cost} is {numbers[cost]}"
    if row["ChargeCategory"] == "Purchase" and row["ChargeFrequency"] == "Usage-Based":
        yield "ChargeFrequency-C-004-C: a purchase is not usage-based"


def _usage(row: Row, _: Mapping[str, Decimal]) -> Iterator[str]:
    is_used = row["ChargeCategory"] == "Usage" and row["CommitmentDiscountStatus"] != "Unused"
    if not is_used and row["ConsumedQuantity"] is not None:
        yield "ConsumedQuantity-C-004-C: something is consumed where nothing was used"
    if is_used and row["ConsumedQuantity"] is None and row["ChargeClass"] != "Correction":
        yield "ConsumedQuantity-C-006-C: ConsumedQuantity is null on a Usage row"


def _commitments(row: Row, numbers: Mapping[str, Decimal]) -> Iterator[str]:
    commitment, status, category = row["CommitmentDiscountId"], row["CommitmentDiscountStatus"], row["ChargeCategory"]
    if commitment is None:
        if status is not None:
            yield "CommitmentDiscountStatus-C-003-C: a status of no commitment"
        if row["CommitmentDiscountQuantity"] is not None:
            yield "CommitmentDiscountQuantity-C-007-C: a quantity of no commitment"
        if row["PricingCategory"] == "Committed":
            yield "PricingCategory-C-009-C: Committed without a commitment"
        return
    if category == "Usage":
        if status is None:
            yield "CommitmentDiscountStatus-C-004-C: usage of a commitment without a status"
        if numbers["BilledCost"]:
            yield "DiscountHandling-A-009-C: usage that a commitment covers is billed"
        if row["PricingCategory"] != "Committed":
            yield "PricingCategory-C-009-C: usage of a commitment is not Committed"
    elif category == "Purchase" and numbers["EffectiveCost"]:
        yield "EffectiveCost-C-005-C: the purchase of a commitment has an effective cost"
    if row["CommitmentDiscountQuantity"] is None and category in ("Usage", "Purchase"):
        yield "CommitmentDiscountQuantity-C-005-C: CommitmentDiscountQuantity is null"
    if (status == "Unused" or category == "Purchase") and row["ResourceId"] != commitment:
        yield "DiscountHandling-A-019-C: ResourceId is not the commitment's"


def _whole(rows: Sequence[Row]) -> Iterator[str]:
    """Rules over all rows together."""
    for child, parent, rule in ONE_PARENT:
        parents: defaultdict[Text, set[Text]] = defaultdict(set)
        for row in rows:
            if row[child] is not None:
                parents[row[child]].add(row[parent])
        for name, several in parents.items():
            if len(several) > 1:
                yield f"{rule}: {child} {name} has {len(several)} of {parent}"
    billed: defaultdict[str, Decimal] = defaultdict(Decimal)
    effective: defaultdict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        commitment = row["CommitmentDiscountId"]
        if commitment is None:
            continue
        if row["ChargeCategory"] == "Purchase":
            billed[commitment] += Decimal(str(row["BilledCost"]))
        else:
            effective[commitment] += Decimal(str(row["EffectiveCost"]))
    for commitment in sorted({*billed, *effective}):
        if billed[commitment] != effective[commitment]:
            yield (
                f"EffectiveCost-C-012-C: {commitment} is billed {billed[commitment]}, its usage has"
                f" {effective[commitment]}"
            )


ROW_RULES: tuple[RowRule, ...] = (_times, _currency, _nulls, _prices, _usage, _commitments)
