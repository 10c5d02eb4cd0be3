"""What is sent stays what it was."""

from pathlib import Path

from fedhpro_flwr.launch.submitted_run import app_folder

ROOT = Path(__file__).resolve().parents[2]


def test_a_copy_with_every_source_and_experiment_that_later_changes_do_not_reach(tmp_path):
    folder = app_folder(tmp_path)
    for package in ("fedhpro_flwr", "server_app", "client_app", "conf"):
        names = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".toml")}
        assert {path.relative_to(folder) for path in (folder / package).rglob("*.*") if path.is_file()} >= names
    assert (folder / "pyproject.toml").read_bytes() == (ROOT / "pyproject.toml").read_bytes()
    (folder / "server_app" / "app.py").write_text("# begun with this")
    assert app_folder(tmp_path) == folder
    assert (folder / "server_app" / "app.py").read_text() == "# begun with this"
    assert not list(folder.rglob("__pycache__"))
