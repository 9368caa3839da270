"""What a file of `published/` says: cases to be reckoned, and claims about their figures. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from math import floor, log10
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from router.config.profiles import ProfileConfig
from router.config.section import Shape


class ShapeConfig(Shape):
    """A model that the catalogue has not, in the members of `router/pricing/roofline.py`'s ModelShape."""

    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    linear_parameters: float = Field(gt=0)
    head_parameters: float = Field(gt=0)
    kv_values_per_token: float = Field(gt=0)
    kv_heads: int = Field(gt=0)
    attention_flops_per_pair: float = Field(ge=0)


class DraftConfig(Shape):
    """Speculative decoding by a small model on the same GPUs: its steps are what drafting takes."""

    model: str
    quantization: str = "bf16"
    tokens: int = Field(gt=0, le=32)
    acceptance_ratio: float = Field(ge=0, le=1)


class EngineConfig(Shape):
    """One replica and what an hour of it costs: `price`, a name in load/plan/prices.yaml, of one GPU; or usd_per_hour of all."""

    model: str = ""
    shape: ShapeConfig | None = None
    figures: ProfileConfig | None = None
    gpu: str = ""
    gpus: int = Field(default=1, gt=0)
    quantization: str = "bf16"
    sequences_max: int | None = Field(default=None, gt=0)
    kv_capacity_tokens: int | None = Field(default=None, gt=0)
    draft: DraftConfig | None = None
    price: str = ""
    usd_per_hour: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _has_one_price(self) -> "EngineConfig":
        if bool(self.price) == (self.usd_per_hour is not None):
            raise ValueError("say `price` or `usd_per_hour`, one of them")
        if (bool(self.model) + (self.shape is not None) + (self.figures is not None)) != 1:
            raise ValueError("say `model`, `shape` or `figures`, one of them")
        return self


class LengthsConfig(Shape):
    """Mean tokens; vary: as the lengths of the shipped trace do, else all alike."""

    prompt_tokens: int = Field(gt=0)
    completion_tokens: int = Field(gt=0)
    vary: bool = True


class ObjectivesConfig(Shape):
    ttft_seconds_max: float = Field(default=2.0, gt=0)
    tpot_seconds_max: float = Field(default=0.05, gt=0)


class Closed(Shape):
    """So many users, each with one request after the other."""

    kind: Literal["closed"]
    engine: EngineConfig
    lengths: LengthsConfig
    users: int = Field(gt=0)
    requests: int = Field(default=400, gt=0)


class Static(Shape):
    """Batches that begin and end together."""

    kind: Literal["static"]
    engine: EngineConfig
    lengths: LengthsConfig
    batch: int = Field(gt=0)
    requests: int = Field(default=1000, gt=0)


class Capacity(Shape):
    """The highest Poisson rate at which 99 % of the requests meet the objectives."""

    kind: Literal["capacity"]
    engine: EngineConfig
    lengths: LengthsConfig
    objectives: ObjectivesConfig = ObjectivesConfig()
    cached_ratio: float = Field(default=0.0, ge=0, lt=1)


class Talk(Shape):
    """The most users in conversations with one replica, 95 % of whose turns meet the objectives."""

    kind: Literal["talk"]
    engine: EngineConfig
    turns: int = Field(gt=0)
    new_tokens: int = Field(gt=0)
    completion_tokens: int = Field(gt=0)
    instruction_tokens: int = Field(default=0, ge=0)
    think_seconds: float = Field(default=0.0, ge=0)
    has_prefix_cache: bool = True
    objectives: ObjectivesConfig = ObjectivesConfig()


class Planned(Shape):
    """`jeton plan`: the cheapest by the ways of paying that are named."""

    kind: Literal["plan"]
    tokens_per_day: float | None = Field(default=None, gt=0)
    requests_per_second: float | None = Field(default=None, gt=0)
    lengths: LengthsConfig
    peak_ratio: float = Field(default=1.54, ge=1)
    cached_ratio: float = Field(default=0.0, ge=0, lt=1)
    quality_min: float = Field(default=0.0, ge=0, le=1)
    objectives: ObjectivesConfig = ObjectivesConfig()
    models: tuple[str, ...] = ("llama-3.1-8b", "llama-3.1-70b")
    quantizations: tuple[str, ...] = ("bf16", "fp8", "int8", "awq-int4")
    gpus: tuple[str, ...] = ("h100",)
    ways: tuple[str, ...]

    @model_validator(mode="after")
    def _has_one_volume(self) -> "Planned":
        if (self.tokens_per_day is None) == (self.requests_per_second is None):
            raise ValueError("say `tokens_per_day` or `requests_per_second`, one of them")
        return self


class SitesConfig(Shape):
    """See `sites.py`. replica: a case of kind `capacity`, whose rate one replica takes."""

    kind: Literal["sites"]
    sites: int = Field(gt=0)
    requests_per_minute: float = Field(gt=0)
    hours: tuple[float, ...] = Field(min_length=24, max_length=24)
    zones: int = Field(default=1, gt=0, le=24)
    dispersion_ratio: float = Field(gt=0)
    replica: str
    covered_ratio: float = Field(default=0.999, gt=0, lt=1)
    edge_ratio_min: float = Field(default=0.8, ge=0, lt=1)


class SourceConfig(Shape):
    usd_per_hour: float = Field(gt=0)
    availability_ratio: float = Field(gt=0, le=1)
    preemptions_per_hour: float = Field(default=0.0, ge=0)
    redo_hours: float = Field(default=0.0, ge=0)


class Available(Shape):
    """An hour of work on the cheapest source that is there."""

    kind: Literal["available"]
    sources: tuple[SourceConfig, ...] = Field(min_length=1)


class PolicyConfig(Shape):
    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Compared(Shape):
    """`jeton load compare`, one policy of it. config, trace: a router.yaml and a file with lengths, beside the file; without a
    trace the shipped one's. metered_profiles: what providers run."""

    kind: Literal["compare"]
    config: str
    trace: str = ""
    rate: float = Field(gt=0)
    seconds: float = Field(gt=0)
    policy: PolicyConfig
    metered_profiles: Mapping[str, str] = Field(default_factory=dict)


class Reckoned(Shape):
    """Numbers and other cases' figures multiplied, divided, and added up: (Π times ÷ Π over) + Σ plus."""

    kind: Literal["reckoned"]
    times: tuple[float | str, ...] = ()
    over: tuple[float | str, ...] = ()
    plus: tuple[float | str, ...] = ()


Case = Annotated[
    Closed | Static | Capacity | Talk | Planned | SitesConfig | Available | Compared | Reckoned,
    Field(discriminator="kind"),
]


class Form(StrEnum):
    """How a claim's figure comes of two of the cases', and how it is written."""

    VALUE = "value"
    RATIO = "ratio"  # first ÷ second
    CHANGE = "change"  # first ÷ second − 1, in per cent
    PERCENT = "percent"  # a value, in per cent
    USD = "usd"
    NUMBER = "number"


# Within so much of what was published we say that we agree.
AGREES_WITHIN = 0.15


class Claim(Shape):
    """published: the figure as numbers, the least and the most (one number twice), in the form's unit; None where no figure was
    published. ours: what came of it, as the command wrote it. impossible: why the published figure cannot be right."""

    says: str
    form: Form
    of: str
    against: str = ""
    published: tuple[float, float] | None = None
    impossible: str = ""
    ours: str = ""
    verdict: str = ""

    @model_validator(mode="after")
    def _has_its_second(self) -> "Claim":
        if (self.form in (Form.RATIO, Form.CHANGE)) != bool(self.against):
            raise ValueError(f"`{self.form.value}` goes {'with' if not self.against else 'without'} `against`")
        return self

    def figure(self, figures: Mapping[str, Mapping[str, float]]) -> float:
        """Raises KeyError for a case or a figure that is not there."""
        first = look_up(figures, self.of)
        if not self.against:
            return first
        second = look_up(figures, self.against)
        return first / second - (1 if self.form is Form.CHANGE else 0)

    def judge(self, figure: float) -> str:
        if self.impossible:
            return "cannot be"
        if self.published is None:
            return "no figure"
        low, high = self.published
        if self.form is Form.CHANGE:  # agreement is about what is left of 1, more and less about the change
            near = (1 + low) * (1 - AGREES_WITHIN) <= 1 + figure <= (1 + high) * (1 + AGREES_WITHIN)
            is_more = (figure > high) if high > 0 else (figure < low)
        else:
            near = low * (1 - AGREES_WITHIN) <= figure <= high * (1 + AGREES_WITHIN)
            is_more = figure > high
        return "agrees" if near else "more" if is_more else "less"


def look_up(figures: Mapping[str, Mapping[str, float]], name: str) -> float:
    case, _, figure = name.partition(".")
    if case not in figures:
        raise KeyError(f"there is no case {case}; there are {', '.join(figures)}")
    if figure not in figures[case]:
        raise KeyError(f"{case} has no figure {figure}; it has {', '.join(figures[case])}")
    return figures[case][figure]


def written(form: Form, figure: float) -> str:
    """As it stands in the table."""
    if form is Form.RATIO:
        return f"{figure:.2f}×" if figure < 10 else f"{figure:,.0f}×"
    if form is Form.CHANGE:
        return f"{figure:+.0%}".replace("-", "−")
    if form is Form.PERCENT:
        return f"{figure:.0%}"
    if form is Form.USD:
        return (
            f"${figure:,.0f}"
            if figure >= 100
            else f"${figure:.2f}"
            if figure >= 1
            else f"${figure:.{_places(figure)}f}"
        )
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def _places(figure: float) -> int:
    """Decimal places that show two digits that are not 0."""
    return 1 - floor(log10(figure)) if figure > 0 else 2


class Restated(Shape):
    """A file. source: where the figures are from. why: the reason for any difference."""

    title: str
    source: str
    cases: Mapping[str, Case] = Field(min_length=1)
    claims: tuple[Claim, ...] = Field(min_length=1)
    why: str
    seed: int = 1

    @model_validator(mode="before")
    @classmethod
    def _one_number_is_both_ends(cls, value: Any) -> Any:
        for claim in value.get("claims", ()) if isinstance(value, dict) else ():
            if isinstance(claim, dict) and isinstance(claim.get("published"), int | float):
                claim["published"] = (claim["published"],) * 2
        return value
