"""The fleet as this process sees it: the current snapshot, our work in flight, and the reports that change them.

Readers take `fleet.snapshot` and `fleet.loads` (or `all_loads`), attribute reads; every report swaps the snapshot whole if it
changed anything. For one event loop; not for threads.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from router.domain.fleet import IDLE, UP, Backend, Health, Load, Replica, Scrape, Snapshot
from router.fleet.drift import MeterDrift
from router.fleet.health import RATE_LIMITED, HealthBook, HealthRules
from router.fleet.in_flight import InFlight, Ticket

HealthListener = Callable[[Replica, Health, Health], None]


class Fleet:
    """Backends with their replicas' health, last scrape and load.

    clock: monotonic seconds. on_health: told replica, health before and health after whenever a verdict changes its
    state; for logs and metrics.
    """

    snapshot: Snapshot
    loads: Mapping[str, Load]

    def __init__(
        self,
        backends: Iterable[Backend],
        tiers: tuple[str, ...],
        rules: HealthRules,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_health: HealthListener | None = None,
    ) -> None:
        self.clock = clock
        self._on_health = on_health
        self._book = HealthBook()
        self._in_flight = InFlight()
        self._drift = MeterDrift()
        self.loads = self._in_flight.loads
        self._replicas: dict[str, Replica] = {}
        self.snapshot = Snapshot({}, {}, {}, tiers)
        self.configure(backends, tiers, rules)

    @property
    def all_loads(self) -> Mapping[str, Load]:
        """With the work of other workers, as last heard."""
        return self._in_flight.all_loads

    def hear(self, elsewhere: Mapping[str, int]) -> None:
        """Other workers have so many attempts in flight, by replica."""
        self._in_flight.hear(elsewhere)

    def configure(self, backends: Iterable[Backend], tiers: tuple[str, ...], rules: HealthRules) -> None:
        """Take over a new configuration. Replicas whose id and url stay keep their health and their last scrape;
        requests in flight at the others end undisturbed, on what they started with."""
        by_name = {backend.name: backend for backend in backends}
        replicas = {replica.id: replica for backend in by_name.values() for replica in backend.replicas}
        scrapes = {
            replica_id: scrape
            for replica_id, scrape in self.snapshot.scrapes.items()
            if replica_id in replicas and replicas[replica_id].url == self._replicas[replica_id].url
        }
        self._replicas = replicas
        self._book.configure(replicas.values(), rules)
        self._drift.configure(replicas.values())
        now = self.clock()
        health = {replica_id: self._book.health(replica_id, now) for replica_id in replicas}
        self.snapshot = Snapshot(by_name, health, scrapes, tiers)

    def enter(self, replica_id: str, prompt_tokens: int, completion_tokens: int = 0) -> Ticket:
        """An attempt starts: hold the ticket with `with`. At a replica that is due for its trial, this attempt is
        it."""
        health = self.snapshot.health.get(replica_id)
        if health is not None and not health.is_usable:
            now = self.clock()
            if self._book.begin_trial(replica_id, now):
                self._judge(replica_id, now)
        return self._in_flight.enter(replica_id, prompt_tokens, completion_tokens)

    def succeeded(self, replica_id: str) -> None:
        """An attempt ended well, or through no fault of the replica after it had answered well."""
        if self.snapshot.health.get(replica_id) is UP and self._book.is_spotless(replica_id):
            return  # nothing that it could change: the rule, so looked at first
        now = self.clock()
        self._book.succeeded(replica_id, now)
        self._judge(replica_id, now)

    def failed(self, replica_id: str, fault: str) -> None:
        """An attempt failed through the replica's fault: connect, reset, time-out, 5xx, nonsense. Not 4xx, not the
        client."""
        now = self.clock()
        self._book.failed(replica_id, fault, now)
        self._judge(replica_id, now)

    def limited(self, replica_id: str, retry_after_seconds: float | None, why: str = RATE_LIMITED) -> None:
        """The replica answered 429 or the like, with the seconds of its Retry-After if it named any. why: for people."""
        now = self.clock()
        self._book.limited(replica_id, retry_after_seconds, now, why)
        self._judge(replica_id, now)

    def refused_credentials(self, replica_id: str) -> None:
        """The replica answered 401 or 403 to our API key: it is out, and so is every replica of its backend with that key."""
        refusing = self._replicas.get(replica_id)
        if refusing is None:  # removed meanwhile
            return
        now = self.clock()
        key = refusing.api_key_header, refusing.api_key
        for replica in self.snapshot.backends[refusing.backend].replicas:
            if (replica.api_key_header, replica.api_key) == key:
                self._book.refused_credentials(replica.id)
                self._judge(replica.id, now)

    def leave(self, replica_id: str, why: str) -> bool:
        """Notice was given that the replica will be taken away: no new work. False where there is no such replica."""
        is_known = self._book.leave(replica_id, why)
        self._judge(replica_id, self.clock())
        return is_known

    def stay(self, replica_id: str) -> bool:
        """The notice was called off. False where there is no such replica."""
        is_known = self._book.stay(replica_id)
        self._judge(replica_id, self.clock())
        return is_known

    def is_leaving(self, replica_id: str) -> bool:
        return self._book.is_leaving(replica_id)

    def accepted_credentials(self, replica_id: str) -> None:
        """The replica accepted our API key in a check."""
        self._book.accepted_credentials(replica_id)
        self._judge(replica_id, self.clock())

    def check_passed(self, replica_id: str) -> None:
        """The replica's `/health` said 200."""
        now = self.clock()
        self._book.check_passed(replica_id, now)
        self._judge(replica_id, now)

    def check_missed(self, replica_id: str, fault: str) -> None:
        """The replica's `/health` did not say 200 in time."""
        self._book.check_missed(replica_id, fault)
        self._judge(replica_id, self.clock())

    def begin_probe(self, replica_id: str, ahead_seconds: float) -> bool:
        """Whether a probe should be sent now: the replica is ejected, and its time is over `ahead_seconds` from now.
        If so the probe is its trial."""
        now = self.clock()
        is_due = self._book.begin_trial(replica_id, now, ahead_seconds)
        if is_due:
            self._judge(replica_id, now)
        return is_due

    def refresh(self, replica_id: str) -> None:
        """Let a time that is over show in the snapshot. Readers need not wait for it (`Health.admits`); metrics do."""
        self._judge(replica_id, self.clock())

    def scraped(self, replica_id: str, scrape: Scrape) -> None:
        """What the replica's `/metrics` said, just now: what we have in flight there is noted with it."""
        if replica_id in self._replicas:
            self._drift.scraped(replica_id, scrape)
            old = self.snapshot
            ours = self.all_loads.get(replica_id, IDLE)
            scrapes = {**old.scrapes, replica_id: replace(scrape, ours=ours)}
            self.snapshot = Snapshot(old.backends, old.health, scrapes, old.tiers)

    def metered(self, replica_id: str, tokens: int) -> None:
        """An attempt at the replica has ended and so many tokens, prompt and completion, were booked for it."""
        self._drift.metered(replica_id, tokens)

    def meter_drift_ratios(self) -> Mapping[str, float]:
        """By backend, our tokens ÷ those of the replicas' own counters (`drift.py`). From any thread."""
        return self._drift.ratios()

    def _judge(self, replica_id: str, now: float) -> None:
        """Swap the snapshot if the verdict on the replica is another than before."""
        old = self.snapshot
        before = old.health.get(replica_id)
        if before is None:  # removed meanwhile
            return
        after = self._book.health(replica_id, now)
        if after is before or after == before:
            return
        self.snapshot = Snapshot(old.backends, {**old.health, replica_id: after}, old.scrapes, old.tiers)
        if self._on_health is not None and after.state is not before.state:
            self._on_health(self._replicas[replica_id], before, after)
