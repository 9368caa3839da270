"""Names that strangers choose are looked up within bounds of time and number."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from router.dispatch import names as names_module
from router.dispatch.names import LOOKUPS_MAX, StrangersNames


async def test_the_addresses_of_all_names_are_found() -> None:
    book = {"a": ["1.1.1.1"], "b": ["1.0.0.1", "2606:4700::1"]}
    names = StrangersNames(book.__getitem__)
    assert sorted(await names.addresses(["a", "b"])) == ["1.0.0.1", "1.1.1.1", "2606:4700::1"]
    names.close()


async def test_a_name_that_is_not_found_is_said_so() -> None:
    def lookup(name: str) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    names = StrangersNames(lookup)
    with pytest.raises(OSError, match="not known"):
        await names.addresses(["a"])
    names.close()


async def test_the_systems_own_look_up_is_used_unless_told_otherwise() -> None:
    names = StrangersNames()
    assert "127.0.0.1" in await names.addresses(["localhost"])
    names.close()


async def test_slow_names_cost_a_bounded_time_and_number_of_look_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "LOOKUP_SECONDS", 0.05)
    go_on = threading.Event()

    def lookup(name: str) -> Sequence[str]:
        go_on.wait(60)
        return ["1.1.1.1"]

    names = StrangersNames(lookup)
    try:
        for _ in range(3):
            with pytest.raises(OSError, match="too long"):
                await names.addresses(["slow"])
        waiting = [asyncio.ensure_future(names.addresses([f"slow-{number}"])) for number in range(2 * LOOKUPS_MAX)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, OSError) for result in results)
        assert any("too many" in str(result) for result in results)
    finally:
        go_on.set()
    async with asyncio.timeout(60):
        while True:  # as soon as they have ended there is room again
            try:
                assert await names.addresses(["a"]) == ["1.1.1.1"]
                break
            except OSError:
                await asyncio.sleep(0.01)
    names.close()
