"""What the simulation's tests share."""

from functools import partial
from pathlib import Path

import pytest
from laboratories import MakeLaboratory, make_laboratory, write_fleet


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeLaboratory:
    """Makes one, of the small fleet; what is given changes the scenario."""
    monkeypatch.setenv("CLOUD_KEY", "sk-x")
    write_fleet(tmp_path)
    return partial(make_laboratory, tmp_path)
