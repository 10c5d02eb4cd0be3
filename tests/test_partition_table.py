"""Who has which samples, on a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from fedhpro_flwr.runs.progress import partition_table


def console(width=80):
    return Console(file=io.StringIO(), width=width, highlight=False, color_system=None)


def shown(on):
    return on.file.getvalue()


def test_names_of_classes_do_nothing_to_the_terminal():
    on = console()
    table = {"fingerprint": "f00d", "class-names": ["\x1b[31mred", "two\nlines"], "counts": [[1, 0]]}
    on.print(partition_table(table))
    said = shown(on)
    assert "\x1b" not in said and len(said.splitlines()) == 4


def test_the_partition_table_fits_and_sums(tmp_path):
    on = console()
    on.print(partition_table({"fingerprint": "f00d", "class-names": list("abc"), "counts": [[1, 0, 2], [3, 4, 0]]}))
    assert "f00d" in shown(on)
    lines = [line.split() for line in shown(on).splitlines()]
    assert lines[-4:] == [
        ["client", "a", "b", "c", "all"],
        ["0", "1", "·", "2", "3"],
        ["1", "3", "4", "·", "7"],
        ["all", "4", "4", "2", "10"],
    ]


def test_many_classes_and_clients_are_summed_up():
    on = console()
    counts = [[client + c for c in range(100)] for client in range(30)]
    on.print(partition_table({"fingerprint": "f", "class-names": [str(c) for c in range(100)], "counts": counts}))
    text = shown(on)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert rows["20-29"][-1] == str(sum(map(sum, counts[20:])))
    assert rows["all"][-1] == str(sum(map(sum, counts)))
    assert "+89" in text


def test_numbers_are_never_cut_short_on_80_columns():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    counts = [[5000 - client] * 10 for client in range(10)]
    on = console()
    on.print(partition_table({"fingerprint": "f", "class-names": names, "counts": counts}))
    text = shown(on)
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines()]
    for client in range(10):
        assert [str(client), *[str(5000 - client)] * 10, str(10 * (5000 - client))] in rows


@pytest.mark.parametrize("samples", [50_000, 9_000_000])
@pytest.mark.parametrize("classes", [2, 9, 10, 11, 12, 13, 100])
def test_any_table_fits_and_every_row_has_a_number_or_dot_for_every_column(classes, samples):
    counts = [[samples] * classes for _ in range(3)]
    on = console()
    on.print(partition_table({"fingerprint": "f", "class-names": ["name"] * classes, "counts": counts}))
    lines = shown(on).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines[-4:])
    *shares, total = map(int, lines[-1].split()[1:])
    assert sum(shares) == total == 3 * samples * classes


def test_class_names_are_shown_as_they_are():
    on = console()
    on.print(partition_table({"fingerprint": "f", "class-names": ["[/red]", "[b]"], "counts": [[1, 2]]}))
    assert "[/red]" in shown(on)
    assert "[b]" in shown(on)


def test_the_domain_of_a_client_stands_beside_it():
    on = console()
    table = {"fingerprint": "f", "class-names": ["a", "b"], "counts": [[1, 2], [3, 4]]}
    on.print(partition_table(table | {"client-domains": ["mnist", ""]}))
    assert [line.split() for line in shown(on).splitlines()[2:4]] == [
        ["0", "mnist", "1", "2", "3"],
        ["1", "3", "4", "7"],
    ]
