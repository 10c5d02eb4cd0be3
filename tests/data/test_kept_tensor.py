"""A tensor kept beside the files it was made of: used again, never in part, never for another key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from fedhpro_flwr.data.kept_tensor import FOLDER, kept_tensor
from fedhpro_flwr.whole_file import ABANDONED_AFTER

KEY, OTHER = "a" * 64, "a" * 32 + "b" * 32  # the same file name
NUMBERS = torch.arange(600, dtype=torch.float32).view(100, 6)


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "user" / "fedhpro"


class Maker:
    def __init__(self, tensor: torch.Tensor = NUMBERS) -> None:
        self.tensor, self.calls = tensor, 0

    def __call__(self) -> torch.Tensor:
        self.calls += 1
        return self.tensor


@pytest.mark.parametrize("tensor", [NUMBERS, torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2), NUMBERS.t()])
def test_it_is_made_once(tmp_path: Path, tensor: torch.Tensor) -> None:
    make = Maker(tensor)
    for _ in range(3):
        kept = kept_tensor(tmp_path, KEY, make)
        assert kept.dtype == tensor.dtype and torch.equal(kept, tensor)
    assert make.calls == 1
    assert [file.name for file in (tmp_path / FOLDER).iterdir()] == ["a" * 32 + ".safetensors"]


def test_others_may_read_what_is_kept_as_the_umask_has_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        kept_tensor(tmp_path, KEY, Maker())
    finally:
        os.umask(before)
    assert [oct(file.stat().st_mode & 0o777) for file in (tmp_path / FOLDER).iterdir()] == ["0o640"]


def test_another_key_is_another_tensor_even_under_the_same_name(tmp_path: Path) -> None:
    kept_tensor(tmp_path, KEY, Maker())
    make = Maker(-NUMBERS)
    assert torch.equal(kept_tensor(tmp_path, OTHER, make), -NUMBERS) and make.calls == 1
    assert torch.equal(kept_tensor(tmp_path, OTHER, Maker()), -NUMBERS)


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
def test_a_part_of_the_file_is_made_anew(tmp_path: Path, length: int) -> None:
    kept_tensor(tmp_path, KEY, Maker())
    file = next((tmp_path / FOLDER).iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    make = Maker()
    assert torch.equal(kept_tensor(tmp_path, KEY, make), NUMBERS) and make.calls == 1
    assert file.read_bytes() == whole


def test_a_strange_file_is_made_anew(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    kept_tensor(tmp_path, KEY, Maker())
    file = next((tmp_path / FOLDER).iterdir())
    for tensors, metadata in (({"tensor": -NUMBERS}, None), ({"other": NUMBERS}, {"fedhpro-key": KEY})):
        save_file(tensors, file, metadata)
        make = Maker()
        assert torch.equal(kept_tensor(tmp_path, KEY, make), NUMBERS) and make.calls == 1


def test_a_crash_while_writing_leaves_nothing_to_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "fsync", crash)
        kept_tensor(tmp_path, KEY, Maker())
    assert list((tmp_path / FOLDER).iterdir()) == []
    make = Maker()
    kept_tensor(tmp_path, KEY, make)
    assert make.calls == 1


def test_a_full_disk_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(tensors: object, file: Path, metadata: object) -> None:
        file.write_bytes(b"a part")
        raise SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr("fedhpro_flwr.data.kept_tensor.save_file", full)
    assert torch.equal(kept_tensor(tmp_path, KEY, Maker()), NUMBERS)
    assert "cannot be kept (I/O error: no space left on device)" in capsys.readouterr().err
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("writable", [True, False])
def test_a_user_without_a_home(
    writable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # as where neither HOME nor the user's entry says one
    monkeypatch.chdir(tmp_path)
    if not writable:
        (tmp_path / FOLDER).write_bytes(b"")
    make = Maker()
    for _ in range(2):
        assert torch.equal(kept_tensor(tmp_path, KEY, make), NUMBERS)
    assert make.calls == (1 if writable else 2)
    assert ("cannot be kept" in capsys.readouterr().err) != writable
    assert not (tmp_path / "~").exists()


def test_the_users_cache_serves_where_the_data_folder_cannot_be_written(tmp_path: Path, user_folder: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"")  # a file where the folder should be: refused for root as well
    make = Maker()
    for _ in range(2):
        assert torch.equal(kept_tensor(tmp_path, KEY, make), NUMBERS)
    assert make.calls == 1
    assert len(list(user_folder.iterdir())) == 1


def test_where_nothing_can_be_written_the_tensor_is_used_all_the_same(
    tmp_path: Path, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / FOLDER).write_bytes(b"")
    user_folder.parent.write_bytes(b"")
    assert torch.equal(kept_tensor(tmp_path, KEY, Maker()), NUMBERS)
    said = capsys.readouterr().err
    assert "cannot be kept" in said and said.count("\n") == 1


def test_home_holds_the_cache_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / FOLDER).write_bytes(b"")
    kept_tensor(tmp_path, KEY, Maker())
    assert len(list((tmp_path / "home" / ".cache" / "fedhpro").iterdir())) == 1


def test_what_was_kept_of_the_same_place_goes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    kept_tensor(tmp_path, "a" * 64, Maker(), of=here)
    mapped = kept_tensor(tmp_path, "a" * 64, Maker(), of=here)
    kept_tensor(tmp_path, "b" * 64, Maker(), of=there)
    kept_tensor(tmp_path, "c" * 64, Maker())
    kept_tensor(tmp_path, "d" * 64, Maker(-NUMBERS), of=here)
    names = sorted(file.name.partition(".")[0][-32:][0] for file in (tmp_path / FOLDER).iterdir())
    assert names == ["b", "c", "d"]
    assert torch.equal(mapped, NUMBERS)  # a process that reads it goes on


def test_what_a_killed_process_left_is_deleted_and_what_another_writes_now_is_not(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    left, written = (tmp_path / FOLDER / f".x.safetensors.{name}.part" for name in ("left", "written"))
    left.write_bytes(b"a part")
    written.write_bytes(b"a part")
    long_ago = left.stat().st_mtime - 2 * ABANDONED_AFTER
    os.utime(left, (long_ago, long_ago))
    kept_tensor(tmp_path, KEY, Maker())
    assert not left.exists() and written.exists()
