"""The meter of one leased replica: what its lease costs, divided exactly among the attempts it serves.

The lease runs whether the replica works or not. While attempts are open, virtual time V advances by `bill / W`, W being the
sum of their weights; an attempt pays its weight × the V that passed, and an event costs the same however many are open.
While none is open the money is idle. (Weighted fair queueing's virtual time, Parekh and Gallager 1993, run backwards: there
it decides who is served next, here who pays for what was served.)

A weight may grow, by the same amount in every unit of virtual time: the cache of an attempt that decodes grows by a token a
step, and virtual time goes by steps. An attempt of weight w that grows by 2g then owes w·v + g·v² when it is v old, all of
them together w·v + g·v² of the sums over a stretch of v, so V comes from the bill as the root of a square; nothing is looked
at but sums, and three events an attempt are still all that is needed.

An attempt may have a *shared* weight besides: its part, if it were alone, of what all n that have one need together, as those
that decode need one read of the weights. It counts for the nth part, whatever n is at the time. So there is a second hand, H,
that goes V ÷ n, and on which shared weights are what others are on V. It is H that is reckoned, and V that follows it, n times
as fast, so that nothing is divided; while nobody has a shared weight the two go alike.

What an attempt takes before its first token is known only then, so it may *settle*: be charged at once what it has taken and
not paid, or be given back what it paid too much. What is given back goes to all that are open. What is charged at once is
charged *ahead* of the bill: most of the money that flows next makes up for it, and an attempt that is closed before that is
charged so much less. No charge is ever of money that the lease has not cost.

All arithmetic is in integers. A *grain* is the smallest amount reckoned with, 2⁻¹¹² of what one nano-dollar an hour costs in
a nanosecond, so prices and times are exact in grains. H goes by whole units, as far as the money reaches; what is left over,
and what rounding a charge down to nano-dollars leaves, goes into one *pot*, smaller than a nano-dollar, which is paid out with
the next money that flows. Hence at any instant, for any history,

    bill = Σ charges + Σ accrued + idle + residue,   0 ≤ residue < 1 nano-dollar per open attempt + 1

(what was charged ahead has not accrued yet), and cutting an interval into pieces (`advance`) changes nothing: H is the last at
which all of the money since the last event pays for it, whether it is asked for once or often.

The fold is deterministic: `fold` over the recorded events gives the same charges, to the nano-dollar, which is the audit.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from math import isqrt
from typing import NotRequired, TypedDict

from router.pricing.weights import WEIGHT_MAX

NS_PER_SECOND = 10**9
NS_PER_HOUR = 3_600 * NS_PER_SECOND
# Virtual time is counted in 2⁻³² nano-dollar-nanoseconds an hour per unit of weight, so what a weight grows by in a unit of it
# is small. In 2⁻⁸⁰ of a weight it is known to five digits for a lease at $1,000 an hour and a token of 40 ns in a batch of
# eight, and better for more of any of these but the price.
VIRTUAL_BITS = 32
GROWTH_BITS = 80
GRAIN_BITS = VIRTUAL_BITS + GROWTH_BITS
GRAINS_PER_NANOUSD = NS_PER_HOUR << GRAIN_BITS
# While something is charged ahead of the bill, all money but this part of it makes up for that; the part goes the usual way,
# so that a profile that holds prompts too dear cannot let all that decode go free. A power of two: grains stay whole.
USUAL_WAY_BITS = 4

# How many closed attempts are remembered, so that an `open` delivered twice cannot revive one. A window, not a history: across
# restarts the journal's unique key (attempt, kind) does this work.
CLOSED_REMEMBERED = 256


class MeterState(TypedDict):
    """A meter at rest, for JSON. Integers are decimal strings: they outgrow 64 bits. `open`: id → weight, since, grains, growth,
    shared weight, since on the other hand, what it was charged ahead.

    grain_bits: what a grain was when it was saved; where it is missing, 32, and weights did not grow. hand, ahead: where they
    are missing, nothing was shared or settled.
    """

    nanousd_per_hour: str
    last_ns: str
    is_ended: bool
    late_events: int
    bill: str
    idle_nanousd: str
    charged_nanousd: str
    pot: str
    virtual: str
    open: dict[str, list[str]]
    grain_bits: NotRequired[int]
    hand: NotRequired[str]
    ahead: NotRequired[str]


class _Open:
    """An open attempt: its weight at the virtual time `since`, and half of what that grows by in a unit of it; its shared weight
    since `hand_since`; all in 2⁻⁸⁰ of a weight. grains: what it owed by then. ahead: of that, what it has settled, all or part
    of which the bill may not have come to."""

    __slots__ = ("ahead", "fine_shared", "fine_weight", "grains", "growth", "hand_since", "since")

    def __init__(self, weight: int, since: int) -> None:
        self.fine_weight = weight << GROWTH_BITS
        self.since = since
        self.grains = self.growth = self.fine_shared = self.hand_since = self.ahead = 0

    def owed(self, virtual: int, hand: int) -> int:
        """Grains."""
        age = virtual - self.since
        owed = self.grains + age * (self.fine_weight + self.growth * age)
        shared = self.fine_shared
        return owed + shared * (hand - self.hand_since) if shared else owed

    def weight_at(self, virtual: int) -> int:
        """In 2⁻⁸⁰."""
        return self.fine_weight + 2 * self.growth * (virtual - self.since)


class ReplicaMeter:
    """One lease, from its start to its end.

    Times are nanoseconds of one clock. They never run backwards: an event earlier than the last is booked at the last and
    counted in `late_events`, so a journal that is to be audited must record `max(at_ns, meter.last_ns)`.

    Attempts are named once: a second `open` of an id, and a `reweigh` or `close` of one that is not open, change nothing.

    last_ns: up to when the lease is booked. late_events: how many events came too late for their time.
    """

    __slots__ = (
        "_ahead",
        "_attempts",
        "_bill",
        "_charged_nanousd",
        "_closed",
        "_growth",
        "_hand",
        "_idle_nanousd",
        "_is_ended",
        "_pot",
        "_rate",
        "_shared",
        "_sharers",
        "_virtual",
        "_weight",
        "last_ns",
        "late_events",
    )

    def __init__(self, nanousd_per_hour: int, started_ns: int) -> None:
        """The lease starts. Raises ValueError on a negative price."""
        self.last_ns = started_ns
        self.late_events = 0
        self._rate = _checked_rate(nanousd_per_hour)
        self._is_ended = False
        self._bill = 0  # nano-dollar nanoseconds an hour
        self._idle_nanousd = 0
        self._charged_nanousd = 0
        self._pot = 0  # grains, < GRAINS_PER_NANOUSD
        self._virtual = 0
        self._weight = 0  # of all, now, in 2⁻⁸⁰
        self._growth = 0  # Σ `_Open.growth`
        self._hand = 0  # virtual time ÷ sharers
        self._sharers = 0  # how many have a shared weight
        self._shared = 0  # Σ `_Open.fine_shared`
        self._ahead = 0  # grains that attempts owe and the bill has not come to; at most Σ `_Open.ahead`
        self._attempts: dict[str, _Open] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()

    # Events

    def open(self, attempt_id: str, weight: int, at_ns: int) -> None:
        """The attempt starts to share the bill. Raises ValueError on a weight outside 1..WEIGHT_MAX or an ended lease."""
        _check_weight(weight)
        if attempt_id in self._attempts or attempt_id in self._closed:
            return
        if self._is_ended:
            raise ValueError(f"attempt {attempt_id} opened on a lease that has ended")
        self._book(at_ns)
        self._attempts[attempt_id] = attempt = _Open(weight, self._virtual)
        self._weight += attempt.fine_weight

    def reweigh(
        self, attempt_id: str, weight: int, at_ns: int, growth: int = 0, shared: int = 0, settled: int = 0
    ) -> None:
        """The attempt does other work from now on (prefill done, decode begins).

        growth: what the weight grows by for every nanosecond per weight that passes, that is, every nanosecond that the lease
        runs while all weights together are 1. At another price it passes faster or slower for those that are open by then.
        shared: what it weighs besides, divided by the number of those that have such a weight; 0: none. settled: nanoseconds
        of the lease, at its price now, that it is charged at once; negative: that it is given back, as far as it has paid.
        Raises ValueError as `open` does, on a growth or shared weight outside 0..WEIGHT_MAX, and on a settlement outside
        ±WEIGHT_MAX.
        """
        _check_weight(weight)
        if not (0 <= growth <= WEIGHT_MAX >= shared >= 0 and -WEIGHT_MAX <= settled <= WEIGHT_MAX):
            raise ValueError(f"growth {growth}, shared weight {shared} or settlement {settled} is beyond {WEIGHT_MAX}")
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        self._book(at_ns)
        virtual, hand = self._virtual, self._hand
        attempt.grains = attempt.owed(virtual, hand)
        if settled > 0:
            grains = (settled * self._rate) << GRAIN_BITS
            attempt.grains += grains
            attempt.ahead += grains
            self._ahead += grains
        elif settled:
            self._pot += self._give_back(attempt, -settled)
        fine_weight, fine_shared = weight << GROWTH_BITS, shared << GROWTH_BITS
        self._weight += fine_weight - attempt.weight_at(virtual)
        self._sharers += (shared > 0) - (attempt.fine_shared > 0)
        self._shared += fine_shared - attempt.fine_shared
        # Half of growth ÷ (virtual units in a nanosecond per weight).
        halved = (growth << (GROWTH_BITS - VIRTUAL_BITS - 1)) // self._rate if self._rate else 0
        self._growth += halved - attempt.growth
        attempt.since, attempt.fine_weight, attempt.growth = virtual, fine_weight, halved
        attempt.hand_since, attempt.fine_shared = hand if shared else 0, fine_shared
        if settled < 0:
            self._pass(0)

    def close(self, attempt_id: str, at_ns: int, given_back: int = 0) -> int | None:
        """The attempt has ended, however: its charge in nano-dollars; None when it is not open.

        given_back: nanoseconds of the lease that it was charged too much, to be paid by those that are still open, if any is.
        """
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return None
        self._book(at_ns)
        owed = attempt.owed(self._virtual, self._hand)
        if self._ahead:
            uncovered = attempt.ahead if attempt.ahead < self._ahead else self._ahead
            self._ahead -= uncovered
            owed -= uncovered
            attempt.ahead -= uncovered
        to_others = 0
        if given_back > 0:
            attempt.grains = owed
            to_others = self._give_back(attempt, given_back)
            owed = attempt.grains
        del self._attempts[attempt_id]
        self._weight -= attempt.weight_at(self._virtual)
        self._growth -= attempt.growth
        if attempt.fine_shared:
            self._sharers -= 1
            self._shared -= attempt.fine_shared
        charge, self._pot = divmod(self._pot + owed, GRAINS_PER_NANOUSD)
        self._charged_nanousd += charge
        if not self._attempts:
            self._virtual = self._hand = 0  # nobody refers to them; keeps the integers small
        elif to_others:
            self._pass(to_others)
        self._closed[attempt_id] = None
        if len(self._closed) > CLOSED_REMEMBERED:
            self._closed.popitem(last=False)
        return charge

    def advance(self, at_ns: int) -> None:
        """Book the time until now. Between events it changes no charge, however often it is called."""
        elapsed_ns = at_ns - self.last_ns
        if elapsed_ns <= 0 or self._is_ended:
            return
        self.last_ns = at_ns
        cost = self._rate * elapsed_ns
        self._bill += cost
        grains = cost << GRAIN_BITS
        if self._ahead:
            made_up = grains - (grains >> USUAL_WAY_BITS)
            if made_up > self._ahead:
                made_up = self._ahead
            self._ahead -= made_up
            grains -= made_up
        self._pass(grains)

    def _pass(self, grains: int) -> None:
        """Let virtual time go by as far as this money reaches, with what is in the pot."""
        grains += self._pot
        weight, growth, sharers = self._weight, self._growth, self._sharers
        if sharers:
            weight = self._shared + sharers * weight
            growth *= sharers * sharers
        if growth:
            passed = (isqrt(weight * weight + 4 * growth * grains) - weight) // (2 * growth)
            self._pot = grains - passed * (weight + growth * passed)
        elif weight:
            passed, self._pot = divmod(grains, weight)
        else:
            idle_nanousd, self._pot = divmod(grains, GRAINS_PER_NANOUSD)
            self._idle_nanousd += idle_nanousd
            return
        self._hand += passed
        if sharers:
            passed *= sharers
        self._virtual += passed
        self._weight += 2 * self._growth * passed

    def reprice(self, nanousd_per_hour: int, at_ns: int) -> None:
        """Another price is in force from now on. Raises ValueError on a negative one."""
        rate = _checked_rate(nanousd_per_hour)
        self._book(at_ns)
        self._rate = rate

    def abandon(self) -> tuple[str, ...]:
        """Give up the open attempts as of `last_ns`: what they owe becomes idle. Returns their ids.

        For a restart: the process that held them died, and the time since it last saved the meter is idle too.
        """
        abandoned = tuple(self._attempts)
        accrued = sum(one.owed(self._virtual, self._hand) for one in self._attempts.values()) - self._ahead
        idle_nanousd, self._pot = divmod(self._pot + accrued, GRAINS_PER_NANOUSD)
        self._idle_nanousd += idle_nanousd
        self._attempts.clear()
        self._weight = self._growth = self._shared = self._sharers = self._ahead = self._virtual = self._hand = 0
        self._closed.update(dict.fromkeys(abandoned))
        while len(self._closed) > CLOSED_REMEMBERED:
            self._closed.popitem(last=False)
        return abandoned

    def end(self, at_ns: int) -> None:
        """The lease ends: nothing is billed after it. Attempts still open keep what they owe until they are closed."""
        self._book(at_ns)
        self._is_ended = True

    def _book(self, at_ns: int) -> None:
        if at_ns < self.last_ns:
            self.late_events += 1
        self.advance(at_ns)

    def _give_back(self, attempt: _Open, elapsed_ns: int) -> int:
        """As far as the attempt has paid, and if there is another that it can go to. Returns what goes to all, grains."""
        if len(self._attempts) < 2:
            return 0
        back = min((elapsed_ns * self._rate) << GRAIN_BITS, attempt.grains)
        attempt.grains -= back
        attempt.ahead -= min(back, attempt.ahead)
        # First it makes up for what others were charged ahead.
        made_up = min(back, self._ahead)
        self._ahead -= made_up
        return back - made_up

    # Balances, as of `last_ns`

    @property
    def nanousd_per_hour(self) -> int:
        return self._rate

    @property
    def is_ended(self) -> bool:
        return self._is_ended

    @property
    def bill(self) -> Fraction:
        """What the lease has cost so far, exactly, in nano-dollars."""
        return Fraction(self._bill, NS_PER_HOUR)

    @property
    def bill_nanousd(self) -> int:
        """What the lease has cost so far, whole nano-dollars."""
        return self._bill // NS_PER_HOUR

    @property
    def idle_nanousd(self) -> int:
        """What of it nobody used."""
        return self._idle_nanousd

    @property
    def balances(self) -> tuple[int, int | None, int, int]:
        """Time of the last event and of the end, nanoseconds (None: not ended); bill and idle, whole nano-dollars."""
        last_ns = self.last_ns
        return last_ns, last_ns if self._is_ended else None, self._bill // NS_PER_HOUR, self._idle_nanousd

    @property
    def charged_nanousd(self) -> int:
        """The sum of all charges."""
        return self._charged_nanousd

    @property
    def open_attempts(self) -> tuple[str, ...]:
        return tuple(self._attempts)

    def accrued(self, attempt_id: str) -> int | None:
        """What an open attempt owes so far, whole nano-dollars, with all that it has settled; None when it is not open."""
        attempt = self._attempts.get(attempt_id)
        return None if attempt is None else attempt.owed(self._virtual, self._hand) // GRAINS_PER_NANOUSD

    def occupied_seconds(self, attempt_id: str) -> float:
        """What an open attempt owes so far, as time of the replica at today's price; 0 when it is not open or costs nothing."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None or not self._rate:
            return 0.0
        return attempt.owed(self._virtual, self._hand) / (self._rate << GRAIN_BITS) / NS_PER_SECOND

    @property
    def accrued_nanousd(self) -> dict[str, int]:
        """What each open attempt owes so far, by attempt id, whole nano-dollars, without what the bill has not come to."""
        return {name: grains // GRAINS_PER_NANOUSD for name, grains in self._accrued()}

    @property
    def residue(self) -> Fraction:
        """What is billed but not yet in any whole nano-dollar above: the pot, and the fractions that open attempts owe."""
        fractions = sum(grains % GRAINS_PER_NANOUSD for _, grains in self._accrued())
        return Fraction(self._pot + fractions, GRAINS_PER_NANOUSD)

    def _accrued(self) -> Iterator[tuple[str, int]]:
        """Grains of each: of what is charged ahead, the oldest attempts' is left out first."""
        ahead = self._ahead
        for name, one in self._attempts.items():
            left_out = min(ahead, one.ahead)
            ahead -= left_out
            yield name, one.owed(self._virtual, self._hand) - left_out

    # Persistence

    def state(self) -> MeterState:
        """All that is needed to go on later, but the window of closed ids."""
        return {
            "nanousd_per_hour": str(self._rate),
            "last_ns": str(self.last_ns),
            "is_ended": self._is_ended,
            "late_events": self.late_events,
            "bill": str(self._bill),
            "idle_nanousd": str(self._idle_nanousd),
            "charged_nanousd": str(self._charged_nanousd),
            "pot": str(self._pot),
            "virtual": str(self._virtual),
            "open": {
                name: [
                    str(one.fine_weight >> GROWTH_BITS),
                    *map(str, (one.since, one.grains, one.growth)),
                    *map(str, (one.fine_shared >> GROWTH_BITS, one.hand_since, one.ahead)),
                ]
                for name, one in self._attempts.items()
            },
            "grain_bits": GRAIN_BITS,
            "hand": str(self._hand),
            "ahead": str(self._ahead),
        }

    @classmethod
    def restore(cls, state: MeterState) -> "ReplicaMeter":
        """The meter exactly as it was, open attempts included. After a crash, `abandon` comes next."""
        meter = cls(int(state["nanousd_per_hour"]), int(state["last_ns"]))
        meter.late_events = state["late_events"]
        meter._is_ended = state["is_ended"]
        meter._bill = int(state["bill"])
        meter._idle_nanousd = int(state["idle_nanousd"])
        meter._charged_nanousd = int(state["charged_nanousd"])
        finer_bits = GRAIN_BITS - state.get("grain_bits", 32)
        meter._pot = int(state["pot"]) << finer_bits
        meter._virtual = int(state["virtual"])
        meter._hand = int(state.get("hand", state["virtual"]))
        meter._ahead = int(state.get("ahead", 0))
        for name, (weight, since, grains, *more) in state["open"].items():
            meter._attempts[name] = one = _Open(int(weight), int(since))
            one.grains = int(grains) << finer_bits
            growth, shared, one.hand_since, one.ahead = *map(int, more), *(0,) * (4 - len(more))
            one.growth, one.fine_shared = growth, shared << GROWTH_BITS
        meter._weight = sum(attempt.weight_at(meter._virtual) for attempt in meter._attempts.values())
        meter._growth = sum(attempt.growth for attempt in meter._attempts.values())
        meter._shared = sum(attempt.fine_shared for attempt in meter._attempts.values())
        meter._sharers = sum(attempt.fine_shared > 0 for attempt in meter._attempts.values())
        return meter


class EventKind(StrEnum):
    OPEN = "open"
    REWEIGH = "reweigh"
    CLOSE = "close"
    REPRICE = "reprice"
    ABANDON = "abandon"
    END = "end"


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One recorded event. amount: the weight of an open or reweigh, what is given back at a close, the nano-dollars an hour of
    a reprice; growth, shared, settled: a reweigh's."""

    kind: EventKind
    at_ns: int
    attempt_id: str = ""
    amount: int = 0
    growth: int = 0
    shared: int = 0
    settled: int = 0


def fold(meter: ReplicaMeter, events: Iterable[MeterEvent]) -> Mapping[str, int]:
    """Run recorded events through a meter (fresh, or restored from a checkpoint): the charge of each attempt that closed.

    Raises ValueError where the meter does. The meter is left as of the last event, its balances to be compared.
    """
    charges: dict[str, int] = {}
    for event in events:
        match event.kind:
            case EventKind.OPEN:
                meter.open(event.attempt_id, event.amount, event.at_ns)
            case EventKind.REWEIGH:
                meter.reweigh(event.attempt_id, event.amount, event.at_ns, event.growth, event.shared, event.settled)
            case EventKind.CLOSE:
                charge = meter.close(event.attempt_id, event.at_ns, event.amount)
                if charge is not None:
                    charges[event.attempt_id] = charge
            case EventKind.REPRICE:
                meter.reprice(event.amount, event.at_ns)
            case EventKind.ABANDON:
                meter.abandon()
            case EventKind.END:
                meter.end(event.at_ns)
    return charges


def _checked_rate(nanousd_per_hour: int) -> int:
    if nanousd_per_hour < 0:
        raise ValueError(f"a lease at {nanousd_per_hour} nano-dollars an hour: a price is not negative")
    return nanousd_per_hour


def _check_weight(weight: int) -> None:
    if not 1 <= weight <= WEIGHT_MAX:
        raise ValueError(f"weight {weight} is not within 1..{WEIGHT_MAX}")
