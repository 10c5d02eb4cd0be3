"""Files that are no TOML are refused in a sentence, whoever reads them."""

import pytest

from fedhpro_flwr.config import ConfigError
from fedhpro_flwr.launch.connections import named
from fedhpro_flwr.settings.from_command_line import prepare
from fedhpro_flwr.settings.recorded import read_recorded
from fedhpro_flwr.settings.toml_file import read_given_toml

DEEP = "[" * 100_000
NO_TOML = {
    "unfinished": (b"rounds = ", "Invalid value"),
    "latin-1": ("experiment = 'caf\u00e9'".encode("latin-1"), "'utf-8' codec can't decode byte"),
    "nested": (f"a = {DEEP}".encode(), "it is nested too deeply"),
}


@pytest.mark.parametrize(("content", "reason"), NO_TOML.values(), ids=NO_TOML)
def test_every_reader_names_the_file_and_the_reason(content, reason, tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    for read in (lambda: prepare(str(path), []), lambda: named("mine", tmp_path), lambda: read_given_toml(path)):
        with pytest.raises(ConfigError, match=f"config.toml is not TOML: {reason}"):
            read()
    with pytest.raises(ValueError, match=f"^{reason}"):
        read_recorded(path)


def test_a_byte_order_mark_is_no_content(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfrounds = 7\n")
    assert prepare(str(path), []).rounds == 7 == read_recorded(path).rounds


def test_sections_of_sections_are_unknown_however_deep(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(".".join("a" * 5000) + " = 1")
    with pytest.raises(ConfigError, match=r"^unknown key a\.a$"):
        prepare(str(path), [])


def test_a_change_nested_too_deeply_is_a_text():
    with pytest.raises(ConfigError, match=r"^rounds = "):
        prepare(None, [f"rounds={DEEP}"])
