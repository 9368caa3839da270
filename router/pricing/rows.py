"""The rows of prices.yaml: what one kind of price says, and which figures are taken for a slip.

Numbers are read as they are written (`Decimal`, never through binary floating point). 0 is a price and nothing is "unset":
a free row, or a figure ten times outside what its kind has ever cost, is refused until the row says
`unusual_price_confirmed: true`. Mistakes are pydantic errors at the member, worded as `what is wrong; what to do`.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails

from router.domain.money import nanousd_from_usd
from router.domain.usage import PLAIN_SERVICE_TIERS, SERVICE_TIER_CHARACTERS_MAX, TOOL_CHARACTERS_MAX
from router.pricing.price import ContextTier, LeasedPrice, MeteredPrice, Purchase, ServiceTier, TokenRates

HOURS_PER_YEAR = 8766  # of 365.25 days
USD_MAX = 10**9

# What each kind of price has been seen to cost, US dollars, least to most. A figure beyond ten times that, either way, is
# taken for a slip of the unit: 13 rows of a widely used price table are 10,000 times too high.
# GPU-hours: 118 rows of 2025–26, RTX 4090 at Hyperbolic to H100 at AWS Tokyo (SkyPilot catalog v7, vendors' pages).
# Tokens: 2,443 rows, LiteLLM's table of 2026-08-01 and genai-prices of 2026-08-21, the 13 suspect ones aside.
# Request fees: Cohere's rerank query to OpenAI's search with a large context (LiteLLM's table).
# Audio: Groq's distil-whisper to OpenAI's whisper-1, 0.006 a minute.
# Calls of hosted tools: OpenAI's file search to its web search with a large context (LiteLLM's table).
USUAL_USD: Mapping[str, tuple[str, str]] = {
    "a GPU-hour": ("0.25", "15.40"),
    "a million prompt tokens": ("0.01", "150"),
    "a million cached tokens": ("0.0028", "37.5"),
    "a million tokens written to the cache": ("0.25", "18.75"),
    "a million completion tokens": ("0.014", "600"),
    "a request": ("0.002", "0.05"),
    "a call of a tool": ("0.0025", "0.05"),
    "an hour of audio": ("0.02", "0.36"),
}
UNUSUAL_FACTOR = 10


def _exact(value: Any) -> Decimal:
    """A YAML number or string as the decimal that was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("is not a number; write decimal US dollars, as in 3.60")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError(f"`{value}` is not a number; write decimal US dollars, as in 3.60") from None
    if not number.is_finite() or not 0 <= number <= USD_MAX:
        raise ValueError(f"{value} is not an amount; write a number from 0 to a thousand million")
    if number != round(number, 9):
        raise ValueError(f"{value} is finer than a nano-dollar; write at most nine decimal places")
    return number.normalize()


def _day(value: Any) -> date:
    """Dates only: pydantic would take a bare number for seconds since 1970."""
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(f"`{value}` is not a day; write it as 2026-11-23") from None


Amount = Annotated[Decimal, BeforeValidator(_exact)]
Day = Annotated[date, BeforeValidator(_day)]


class Row(BaseModel):
    """What all kinds have in common. In force from `from` (inclusive) to `until` (exclusive).

    confirmed: the last day on which somebody saw that the figure still holds. It is no part of the price.
    """

    model_config = {"frozen": True, "extra": "forbid"}

    # First, so that the validators of the figures below can see it.
    unusual_price_confirmed: bool = False
    first_day: Day = Field(alias="from")
    until: Day | None = None
    confirmed: Day | None = None
    source: str = Field(min_length=1, description="where the figure was read, and when")

    @field_validator("until")
    @classmethod
    def _ends_after_it_began(cls, until: date | None, info: ValidationInfo) -> date | None:
        first_day = info.data.get("first_day")
        if until is not None and first_day is not None and until <= first_day:
            raise ValueError(f"ends on {until}, not after it began on {first_day}; `until` is the first day without it")
        return until

    def is_in_force(self, day: date) -> bool:
        return self.first_day <= day and (self.until is None or day < self.until)

    @property
    def known_on(self) -> date:
        """The last day on which the figure is known to have held."""
        return self.first_day if self.confirmed is None else max(self.first_day, self.confirmed)

    def digest(self) -> str:
        """Eight hex digits of the content: the same row gives the same, however it is laid out in the file."""
        content = self.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"confirmed"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


class LeaseRow(Row):
    """Capacity rented by the hour. usd_per_hour: for one replica, all of its `gpus` together.

    discount_ratio: of a commitment (`purchase: reserved`), which is then paid whether used or not, as any lease.
    power_kw, idle_power_kw, pue: as of owned hardware; of no consequence for the price, but for the report's energy.
    """

    kind: Literal["lease"]
    purchase: Literal["on_demand", "spot", "reserved"] = "on_demand"
    gpu: str = ""
    gpus: int = Field(default=1, ge=1, le=4096)
    usd_per_hour: Amount
    discount_ratio: Annotated[Decimal, BeforeValidator(_exact), Field(lt=1)] = Decimal(0)
    power_kw: Amount | None = None
    idle_power_kw: Amount | None = None
    pue: Annotated[Decimal, BeforeValidator(_exact), Field(ge=1, le=5)] = Decimal(1)

    @field_validator("usd_per_hour")
    @classmethod
    def _is_usual(cls, usd_per_hour: Decimal, info: ValidationInfo) -> Decimal:
        if "gpus" in info.data:
            _check_usual("a GPU-hour", usd_per_hour / info.data["gpus"], info)
        return usd_per_hour

    @field_validator("discount_ratio")
    @classmethod
    def _is_committed(cls, discount_ratio: Decimal, info: ValidationInfo) -> Decimal:
        if discount_ratio and info.data.get("purchase", "reserved") != "reserved":
            raise ValueError(
                "a discount without a commitment; write `purchase: reserved`, or the discounted usd_per_hour"
            )
        return discount_ratio

    def snapshot(self, price_id: str) -> LeasedPrice:
        nanousd_per_hour = nanousd_from_usd(self.usd_per_hour * (1 - self.discount_ratio))
        return LeasedPrice(price_id, nanousd_per_hour, Purchase(self.purchase), self.gpu)


class OwnedRow(Row):
    """Hardware of our own, for one replica, all of its `gpus` together:

        $/hour = capital_usd / (life_years × 8,766) + power_kw × pue × energy_usd_per_kwh + hosting_usd_per_hour

    Straight-line over its life, without resale value or interest. power_kw: what it draws on average, busy and idle; pue:
    the data centre's power usage effectiveness, total power ÷ IT power. idle_power_kw: while it serves nothing, for the report's
    energy; without it the average stands for both. None of it depends on use: this is a lease from
    ourselves, and what is not used is idle.
    """

    kind: Literal["owned"]
    gpu: str = ""
    gpus: int = Field(default=1, ge=1, le=4096)
    capital_usd: Amount
    life_years: Annotated[Decimal, BeforeValidator(_exact), Field(gt=0, le=30)]
    power_kw: Amount
    energy_usd_per_kwh: Amount
    pue: Annotated[Decimal, BeforeValidator(_exact), Field(ge=1, le=5)]
    idle_power_kw: Amount | None = None
    hosting_usd_per_hour: Amount = Decimal(0)

    def usd_per_hour(self) -> Decimal:
        capital = self.capital_usd / (self.life_years * HOURS_PER_YEAR)
        return capital + self.power_kw * self.pue * self.energy_usd_per_kwh + self.hosting_usd_per_hour

    @model_validator(mode="after")
    def _is_usual(self) -> Self:
        if not self.unusual_price_confirmed:
            _check_within("a GPU-hour", self.usd_per_hour() / self.gpus)
        return self

    def snapshot(self, price_id: str) -> LeasedPrice:
        return LeasedPrice(price_id, nanousd_from_usd(self.usd_per_hour()), Purchase.OWNED, self.gpu)


class Rates(BaseModel):
    """$ per million tokens. Without a rate of its own a cached token, or one written to the cache, costs as any prompt token, and
    one that is written to be kept an hour as any written."""

    model_config = {"frozen": True, "extra": "forbid"}

    prompt_usd_per_million: Amount
    cached_usd_per_million: Amount | None = None
    cache_write_usd_per_million: Amount | None = None
    cache_write_hour_usd_per_million: Amount | None = None
    completion_usd_per_million: Amount

    def token_rates(self) -> TokenRates:
        prompt = self.prompt_usd_per_million
        cached, written = self.cached_usd_per_million, self.cache_write_usd_per_million
        written_for_an_hour = self.cache_write_hour_usd_per_million
        return TokenRates(
            prompt=nanousd_from_usd(prompt),
            cached=nanousd_from_usd(prompt if cached is None else cached),
            cache_write=nanousd_from_usd(prompt if written is None else written),
            completion=nanousd_from_usd(self.completion_usd_per_million),
            cache_write_hour=None if written_for_an_hour is None else nanousd_from_usd(written_for_an_hour),
        )


class TierRates(Rates):
    """Rates of the whole request once its prompt, cached tokens included, is longer than `above_prompt_tokens`."""

    above_prompt_tokens: int = Field(gt=0)


RATE_KINDS = {
    "prompt_usd_per_million": "a million prompt tokens",
    "cached_usd_per_million": "a million cached tokens",
    "cache_write_usd_per_million": "a million tokens written to the cache",
    "cache_write_hour_usd_per_million": "a million tokens written to the cache",
    "completion_usd_per_million": "a million completion tokens",
}
AUDIO_HOURS = {"audio_usd_per_second": 3600, "audio_usd_per_minute": 60, "audio_usd_per_hour": 1}
MEMBER_KINDS = RATE_KINDS | {"usd_per_hour": "a GPU-hour", "request_usd": "a request"}


def _check_cached(prompt: Decimal | None, cached: Decimal | None, info: ValidationInfo) -> None:
    """No provider is known that takes more for a token it need not compute."""
    if prompt is None or cached is None or cached <= prompt or info.data.get("unusual_price_confirmed"):
        return
    raise ValueError(
        f"a cached token (${cached} per million) is dearer than an uncached one (${prompt}); if it is so, write"
        " `unusual_price_confirmed: true` beside it"
    )


class TokenPrices(Rates):
    """All that a provider takes for what is used of a model: tokens by class, tiers by context length, a fee per request, input
    audio."""

    tiers: tuple[TierRates, ...] = ()
    request_usd: Amount = Decimal(0)
    audio_usd_per_second: Amount | None = None
    audio_usd_per_minute: Amount | None = None
    audio_usd_per_hour: Amount | None = None

    def usd_per_audio_hour(self) -> Decimal:
        given = [(getattr(self, member), hours) for member, hours in AUDIO_HOURS.items()]
        return sum((usd * hours for usd, hours in given if usd is not None), Decimal(0))

    def context_tiers(self) -> tuple[ContextTier, ...]:
        return tuple(ContextTier(tier.above_prompt_tokens, tier.token_rates()) for tier in self.tiers)


ServiceTierName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=SERVICE_TIER_CHARACTERS_MAX)
]

ToolName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=TOOL_CHARACTERS_MAX)]


class TokensRow(TokenPrices, Row):  # the bases in this order, so that Row's members are read first
    """A provider's price list for one model.

    service_tiers: what it takes instead for requests under a service tier of that name (`flex`, `priority`). Each states all that
    the row itself states. What a request costs under a tier that is not there nobody knows.
    tool_call_usd: what a call costs of a tool that the provider runs itself (`web_search`), under any service tier. 0 is a fee;
    what a call costs of a tool that is not there nobody knows.
    """

    kind: Literal["tokens"]
    tool_call_usd: dict[ToolName, Amount] = {}
    service_tiers: dict[ServiceTierName, TokenPrices] = {}  # last, so that its validator can see all others

    @field_validator(*RATE_KINDS)
    @classmethod
    def _rate_is_usual(cls, usd: Decimal | None, info: ValidationInfo) -> Decimal | None:
        if usd:
            _check_usual(RATE_KINDS[str(info.field_name)], usd, info)
        if info.field_name == "cached_usd_per_million":
            _check_cached(info.data.get("prompt_usd_per_million"), usd, info)
        return usd

    @field_validator("tiers")
    @classmethod
    def _tiers_are_usual_and_ascend(cls, tiers: tuple[TierRates, ...], info: ValidationInfo) -> tuple[TierRates, ...]:
        thresholds = [tier.above_prompt_tokens for tier in tiers]
        if thresholds != sorted(set(thresholds)):
            raise ValueError("tiers do not ascend; sort them by above_prompt_tokens, each once")
        for tier in tiers:
            for member, kind in RATE_KINDS.items():
                if usd := getattr(tier, member):
                    _check_usual(kind, usd, info)
            _check_cached(tier.prompt_usd_per_million, tier.cached_usd_per_million, info)
        return tiers

    @field_validator("request_usd")
    @classmethod
    def _fee_is_usual(cls, usd: Decimal, info: ValidationInfo) -> Decimal:
        if usd:
            _check_usual("a request", usd, info)
        return usd

    @field_validator("tool_call_usd")
    @classmethod
    def _tool_calls_are_usual(cls, fees: dict[str, Decimal], info: ValidationInfo) -> dict[str, Decimal]:
        for tool, usd in fees.items():
            if usd and not info.data.get("unusual_price_confirmed") and (what := _unusual("a call of a tool", usd)):
                raise _mistake_at((tool,), f"{what}; check the unit, or add `unusual_price_confirmed: true` to the row")
        return fees

    @field_validator(*AUDIO_HOURS)
    @classmethod
    def _audio_is_usual(cls, usd: Decimal | None, info: ValidationInfo) -> Decimal | None:
        member = str(info.field_name)
        if usd is not None and any(info.data.get(other) is not None for other in AUDIO_HOURS):
            raise ValueError("audio is priced twice; keep one of " + ", ".join(AUDIO_HOURS))
        if usd:
            _check_usual("an hour of audio", usd * AUDIO_HOURS[member], info)
        return usd

    @model_validator(mode="after")
    def _is_not_free_by_accident(self) -> Self:
        figures = [getattr(rates, member) for rates in (self, *self.tiers) for member in RATE_KINDS]
        if not (self.unusual_price_confirmed or any(figures) or self.request_usd or self.usd_per_audio_hour()):
            raise ValueError("every rate is 0; if it is free of charge, add `unusual_price_confirmed: true`")
        for tier in self.tiers:
            if not (self.unusual_price_confirmed or any(getattr(tier, member) for member in RATE_KINDS)):
                raise ValueError(
                    f"every rate above {tier.above_prompt_tokens:,} prompt tokens is 0; if it is free of charge, add"
                    " `unusual_price_confirmed: true`"
                )
        return self

    @field_validator("service_tiers")
    @classmethod
    def _service_tiers_are_whole_and_usual(
        cls, service_tiers: dict[str, TokenPrices], info: ValidationInfo
    ) -> dict[str, TokenPrices]:
        for name, prices in service_tiers.items():
            if name in PLAIN_SERVICE_TIERS:
                raise _mistake_at((name,), "is what the row itself is the price of; take it out")
            if unsaid := _unsaid(info.data, prices):
                missing = ", ".join(f"`{member}`" for member in unsaid)
                raise _mistake_at((name,), f"says nothing of {missing}, which the row itself does; write it there, too")
            # As a row of its own would have to be.
            about = {"kind": "tokens", "from": date.min, "source": name}
            about["unusual_price_confirmed"] = info.data.get("unusual_price_confirmed", False)
            try:
                TokensRow.model_validate(about | prices.model_dump(exclude_unset=True))
            except ValidationError as error:
                (first, *_) = error.errors(include_url=False)
                raise _mistake_at((name, *first["loc"]), first["msg"].removeprefix("Value error, ")) from None
        return service_tiers

    def snapshot(self, price_id: str) -> MeteredPrice:
        return MeteredPrice(
            price_id,
            rates=self.token_rates(),
            tiers=self.context_tiers(),
            request_nanousd=nanousd_from_usd(self.request_usd),
            audio_nanousd_per_hour=nanousd_from_usd(self.usd_per_audio_hour()),
            service_tiers=tuple(
                ServiceTier(
                    name,
                    rates=prices.token_rates(),
                    tiers=prices.context_tiers(),
                    request_nanousd=nanousd_from_usd(prices.request_usd),
                    audio_nanousd_per_hour=nanousd_from_usd(prices.usd_per_audio_hour()),
                )
                for name, prices in sorted(self.service_tiers.items())
            ),
            tool_call_nanousd=tuple(sorted((tool, nanousd_from_usd(usd)) for tool, usd in self.tool_call_usd.items())),
        )


def _unsaid(row: Mapping[str, Any], prices: TokenPrices) -> list[str]:
    """What a row states of its price, by the members read so far, and a service tier of it does not: neither the row's own figure
    nor none would be right in silence."""
    said = prices.model_fields_set
    stated = [member for member in RATE_KINDS if row.get(member) is not None]
    stated += [member for member in ("tiers", "request_usd") if row.get(member)]
    audio = [member for member in AUDIO_HOURS if row.get(member) is not None]
    return [member for member in stated if member not in said] + (audio if said.isdisjoint(AUDIO_HOURS) else [])


def _mistake_at(place: tuple[str | int, ...], message: str) -> ValidationError:
    """A mistake below the member that is being read."""
    details = InitErrorDetails(type="value_error", loc=place, input=None, ctx={"error": ValueError(message)})
    return ValidationError.from_exception_data("", [details])


AnyRow = Annotated[LeaseRow | OwnedRow | TokensRow, Field(discriminator="kind")]


def _check_usual(kind: str, usd: Decimal, info: ValidationInfo) -> None:
    if not info.data.get("unusual_price_confirmed", False):
        _check_within(kind, usd)


def _check_within(kind: str, usd: Decimal) -> None:
    if what := _unusual(kind, usd):
        raise ValueError(f"{what}; check the unit, or add `unusual_price_confirmed: true` to the row")


def unusual(member: str, usd: Decimal) -> str:
    """What is unusual about the figure of a row's member, `usd_per_hour` being that of one GPU; "" where nothing is."""
    if member in AUDIO_HOURS:
        return _unusual("an hour of audio", usd * AUDIO_HOURS[member])
    return _unusual(MEMBER_KINDS[member], usd)


def _unusual(kind: str, usd: Decimal) -> str:
    low, high = (Decimal(bound) for bound in USUAL_USD[kind])
    if low / UNUSUAL_FACTOR <= usd <= high * UNUSUAL_FACTOR:
        return ""
    return (
        f"{usd.normalize():f} USD for {kind} is more than {UNUSUAL_FACTOR} times outside what is known, {low} to {high}"
    )
