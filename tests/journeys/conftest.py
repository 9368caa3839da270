"""What journeys share: a running router over an emulated fleet, on the event loop that serves in life."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop
from whole_app import WholeApp, running


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A time-out by signal is raised inside the event loop, which takes it for some callback's error and goes on. One by thread
    ends the whole worker, so it is for what hangs, not for what a busy machine makes slow."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(300, method="thread"))


@pytest.fixture
async def jeton(tmp_path: Path) -> AsyncIterator[WholeApp]:
    """The router as configured in `whole_app.py`. What it leaves behind is checked at the end of each test."""
    async with running(tmp_path) as whole:
        yield whole
