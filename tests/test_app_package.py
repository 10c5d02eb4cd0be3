"""What Flower packs of the app: every module, or the actors of a simulation lack it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_no_module_has_a_name_that_flower_leaves_out():
    """`flwr build` never packs test_*.py and *_test.py, whatever fab-include says."""
    modules = [
        path for package in ("fedhpro_flwr", "server_app", "client_app") for path in (ROOT / package).rglob("*.py")
    ]
    assert len(modules) > 50
    assert [path.name for path in modules if path.stem.startswith("test_") or path.stem.endswith("_test")] == []
