"""What the runs of this folder share."""

import pytest

from fedhpro_flwr.runs import results


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no curves.png, which takes half of the time of a short one."""
    monkeypatch.setattr(results, "draw_curves", lambda *_: b"")
