"""API keys from files, and credentials that end: who waits for them, and when they are fetched anew."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from router.dispatch.credentials import CredentialsMissing, Lent, Vault, read_key, reread
from router.domain.fleet import Replica


class Office:
    """Hands out numbered credentials of a given life. gate: held shut, fetching waits."""

    def __init__(self, clock: "Clock", life_seconds: float = 3600.0) -> None:
        self.clock = clock
        self.life_seconds = life_seconds
        self.handed_out = 0
        self.is_shut = False

    def fetch(self) -> Lent:
        if self.is_shut:
            raise CredentialsMissing("the office is shut")
        self.handed_out += 1
        return Lent(self.handed_out, self.clock.seconds + self.life_seconds)


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize("text", ["sk-1", "sk-1\n", "  sk-1 \r\n"])
def test_a_key_is_the_one_line_of_its_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    assert read_key(path) == "sk-1"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe", b"k" * (2**16 + 1)])
def test_a_file_without_one_key_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(CredentialsMissing) as raised:
        read_key(path)
    assert str(path) in str(raised.value)
    assert "two" not in str(raised.value).replace(str(path), "")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsMissing, match="No such file"):
        read_key(tmp_path / "nowhere")


async def test_a_replica_is_read_again_only_where_its_file_holds_another_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("new")
    replica = Replica("a/1", "a", "http://there", "old", api_key_file=str(path))
    again = await reread(replica)
    assert again is not None
    assert again.api_key == "new"
    assert await reread(again) is None
    path.unlink()
    assert await reread(replica) is None
    assert await reread(Replica("a/1", "a", "http://there", "old")) is None


async def test_a_credential_is_fetched_once_for_all_who_ask_at_once(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock)
    assert await asyncio.gather(*(vault.get("a", office.fetch) for _ in range(10))) == [1] * 10
    assert await vault.get("a", office.fetch) == 1
    assert office.handed_out == 1


async def test_it_is_renewed_before_its_end_and_nobody_waits(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock)
    await vault.get("a", office.fetch)
    clock.seconds += 3600 - 299
    assert await vault.get("a", office.fetch) == 1  # the old one, while the new one is fetched
    await until(lambda: office.handed_out == 2)
    assert await vault.get("a", office.fetch) == 2


async def test_while_renewing_fails_the_old_one_serves_until_it_ends(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock)
    await vault.get("a", office.fetch)
    office.is_shut = True
    clock.seconds += 3400
    assert await vault.get("a", office.fetch) == 1
    clock.seconds += 201
    with pytest.raises(CredentialsMissing, match="the office is shut"):
        await vault.get("a", office.fetch)
    office.is_shut = False
    assert await vault.get("a", office.fetch) == 2


async def test_a_short_life_is_renewed_at_its_half(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock, life_seconds=10)
    await vault.get("a", office.fetch)
    clock.seconds += 4
    assert await vault.get("a", office.fetch) == 1
    assert office.handed_out == 1
    clock.seconds += 2
    await vault.get("a", office.fetch)
    await until(lambda: office.handed_out == 2)


async def test_what_was_refused_is_fetched_anew_and_says_whether_it_is_another(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock)
    assert not await vault.renewed("a")
    await vault.get("a", office.fetch)
    assert await vault.renewed("a")
    assert await vault.get("a", office.fetch) == 2
    office.handed_out -= 1  # hands out the same again
    assert not await vault.renewed("a")
    office.is_shut = True
    assert not await vault.renewed("a")


async def test_outdated_credentials_are_renewed_behind_the_next_request(clock: Clock) -> None:
    vault, office = Vault(clock), Office(clock)
    await vault.get("a", office.fetch)
    vault.outdate()
    assert await vault.get("a", office.fetch) == 1
    await until(lambda: office.handed_out == 2)


async def until(is_so: Any) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.001)
