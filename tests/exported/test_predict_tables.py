"""`fedhpro predict` on .csv files: rows of numbers, texts, and a column of labels; what is no file."""

import os
from types import SimpleNamespace

import pytest
from predicting import predict

from fedhpro_flwr.exported.description import model_bytes, read_model
from fedhpro_flwr.exported.tables import of_csv

pytestmark = pytest.mark.usefixtures("one_thread")


def test_rows_of_numbers(vectors, tmp_path, capfd):
    lines = [",".join(map(str, x)) for x in vectors.test.inputs.tolist()]
    (tmp_path / "plain.csv").write_text("\n".join(lines))
    names = [f"{int(label)},{line}" for label, line in zip(vectors.test.labels, lines, strict=True)]
    (tmp_path / "labelled.csv").write_text("\n".join(["label,a,b,c,d,e,f", *names]))
    plain = predict(capfd, vectors.folder, tmp_path / "plain.csv")
    labelled = predict(capfd, vectors.folder, tmp_path / "labelled.csv")
    assert plain[2] == "" and labelled[2].startswith(f"accuracy {100 * vectors.tested['accuracy']:.2f} %: ")
    assert [row[1:] for row in plain[1]] == [row[1:] for row in labelled[1]]
    assert [rows[1][1][0] for rows in (plain, labelled)] == [
        f"{tmp_path}/plain.csv:1", f"{tmp_path}/labelled.csv:2",
    ]  # fmt: skip


def test_texts_with_and_without_labels(texts, tmp_path, capfd):
    status, _, told = predict(capfd, texts.folder, texts.csv)
    assert status == 0 and told.startswith(f"accuracy {100 * texts.tested['accuracy']:.2f} %: ")
    (tmp_path / "new.csv").write_text('text,source\n"zinc, tin",x\n')
    assert predict(capfd, texts.folder, tmp_path / "new.csv")[1][1][:2] == [f"{tmp_path}/new.csv:2", "metal"]


TABLES = [
    ("vectors", "a.csv", "1,2,3\n", "a.csv, line 1: 3 numbers, the model takes vectors of 6 numbers"),
    ("vectors", "a.csv", "1,2,3,4,5,6\n1,2\n", "a.csv, line 2: the first line has 6 columns, the row 2"),
    ("vectors", "a.csv", "1,2,3,4,5,nan\n", "a.csv, line 1: 'nan' is no finite number of 32 bits"),
    ("vectors", "a.csv", "1,2,3,4,5,1e39\n", "a.csv, line 1: '1e39' is no finite number of 32 bits"),
    ("vectors", "a.csv", "1,,3,4,5,6\n1,2,3,4,5,6\n", "a.csv, line 1: '' is no number, and the row names no columns;"),
    ("vectors", "a.csv", "1,2,x,4,5,6\n1,2,3,4,5,6\n", "a.csv, line 1: 'x' is no number, and the row names no col"),
    ("vectors", "a.csv", ",,,,,\n1,2,3,4,5,6\n", "a.csv, line 1: '' is no number, and the row names no columns"),
    ("vectors", "a.csv", "NA,NA,NA,NA,NA,NA\n1,2,3,4,5,6\n", "a.csv, line 1: 'NA' is no number, and the row names no"),
    (
        "vectors",
        "a.csv",
        "?,,?,n/a,?,?\n1,2,3,4,5,6\n",
        "a.csv, line 1: '?' is no number, and the row names no columns",
    ),
    ("vectors", "a.csv", "1;2;3;4;5;6\n", "a.csv, line 1: its values are parted by semicolons, a .csv file of numbers"),
    ("vectors", "a.csv", "a;b;c;d;e;f\n0,5;1;2;3;4;5\n", "a.csv, line 1: its values are parted by semicolons"),
    ("vectors", "a.csv", "0;1;2;3;4;5;6\n", "a.csv, line 1: its values are parted by semicolons"),  # one is a label
    ("vectors", "a.csv", "x\n1 2 3 4 5 6\n", "a.csv, line 2: its values are parted by spaces"),
    ("vectors", "a.csv", "label,a,b,c,d,e,f\n7,1,2,3,4,5,6\n", "line 2: the label '7' is none of the model's classes"),
    ("vectors", "a.csv", "label,a,b,c,d,e,f,label\n0,1,2,3,4,5,6,0\n", "a.csv: the first line names two columns label"),
    ("vectors", "a.csv", "", "a.csv holds no row"),
    ("vectors", "a.png", "", "a.png: the model takes vectors of 6 numbers, out of .npz and .csv files"),
    ("texts", "a.csv", "words\nzinc\n", "a.csv: the first line must name the column text, it holds words"),
    ("texts", "a.png", "", "a.png: the model takes texts (of which it reads 6 tokens), out of .csv files"),
    ("digits", "a.csv", "text\nzinc\n", "a.csv: the model takes grey images of 8x8 pixels, no rows of a .csv file"),
    ("digits", "a.npz", "no archive", "a.npz"),
]


@pytest.mark.parametrize(("run", "name", "content", "sentence"), TABLES)
def test_what_a_model_does_not_take_is_a_sentence(run, name, content, sentence, request, tmp_path, capfd):
    (tmp_path / name).write_text(content)
    status, rows, told = predict(capfd, request.getfixturevalue(run).folder, tmp_path / name)
    assert status == 1 and len(rows) == 1 and sentence in told
    assert told.endswith("fedhpro: 0 predicted, the above left out\n") and told.count("\n") == 2


def renamed(run, folder, *names):
    """The run's model with other names for its classes."""
    described, tensors = read_model(run.folder / "model.safetensors")
    file = folder / "renamed.safetensors"
    file.write_bytes(model_bytes(tensors, described.model_copy(update={"class_names": names})))
    return file


COLUMNS = [
    (("1", "2", "3", "4"), ("1", "2", "3"), (0, 1, 2)),  # names that are numbers
    (("1", "2", "3", "4"), ("1", "0", "2"), (1, 0, 2)),  # no class is called 0: ids
    (("0", "1", "3", "2"), ("0", "2", "3"), (0, 3, 2)),  # both: names
    (("a", "b", "c", "d"), ("d", " b", "a"), (3, 1, 0)),
    (("a", "b", "c", "d"), ("3", "01", "0"), (3, 1, 0)),
]


@pytest.mark.parametrize(("names", "written", "ids"), COLUMNS)
def test_a_column_of_labels_is_read_as_names_or_as_ids_as_a_whole(names, written, ids, vectors, tmp_path):
    described = read_model(renamed(vectors, tmp_path, *names))[0]
    lines = [f"{label},1,2,3,4,5,6" for label in written]
    (tmp_path / "a.csv").write_text("\n".join(["label,a,b,c,d,e,f", *lines]))
    assert of_csv(tmp_path / "a.csv", SimpleNamespace(description=described)).labels.tolist() == list(ids)


@pytest.mark.parametrize(("classes", "named"), [(10, "4, 5, 6, 7, 8, 9"), (400, "4, 5, 6, 7, 8, 9 and 390 more")])
def test_a_label_that_is_no_class_names_ten_of_the_classes(classes, named, vectors, tmp_path):
    described = read_model(renamed(vectors, tmp_path, *map(str, range(classes))))[0]
    (tmp_path / "a.csv").write_text("label,a,b,c,d,e,f\nx,1,2,3,4,5,6\n")
    with pytest.raises(ValueError, match=f"the label 'x' is none of the model's classes, 0, 1, 2, 3, {named}$"):
        of_csv(tmp_path / "a.csv", SimpleNamespace(description=described))


MIXED = [
    ("3,0,3,4", "line 5: the label '4' is a class's name, but '0' in line 3 a class id; write all labels as names, or"),
    (
        "4,1,0",
        "line 4: the label '0' is a class id, but '4' in line 2 a class's name; write all labels as names, or all",
    ),
    ("0,1,4,x", "line 5: the label 'x' is none of the model's classes, 1, 2, 3, 4"),
    (
        "0,1,4",
        "line 4: the label '4' is a class's name, but '0' in line 2 a class id; write all labels as names, or all",
    ),
]


@pytest.mark.parametrize(("written", "sentence"), MIXED)
def test_a_column_of_names_and_ids_is_refused_at_the_row_where_it_turns(written, sentence, vectors, tmp_path, capfd):
    lines = [f"{label},1,2,3,4,5,6" for label in written.split(",")]
    (tmp_path / "a.csv").write_text("\n".join(["label,a,b,c,d,e,f", *lines]))
    status, rows, told = predict(capfd, renamed(vectors, tmp_path, "1", "2", "3", "4"), tmp_path / "a.csv")
    assert (status, len(rows)) == (1, 1) and f"a.csv, {sentence}" in told


def test_names_of_columns_may_be_numbers_beside_label(vectors, tmp_path, capfd):
    (tmp_path / "a.csv").write_text("0,1,2,3,4,5,label\n1,2,3,4,5,6,0\n")
    status, rows, told = predict(capfd, vectors.folder, tmp_path / "a.csv")
    assert (status, rows[1][0]) == (0, f"{tmp_path / 'a.csv'}:2") and told.startswith("accuracy ")


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_a_pipe_is_left_out(vectors, tmp_path, capfd, ending):
    pipe = tmp_path / f"pipe.{ending}"
    os.mkfifo(pipe)
    status, rows, told = predict(capfd, vectors.folder, pipe)
    said = f"fedhpro: {pipe} is a pipe or a device, no .{ending} file\n"
    assert (status, rows[1:], told) == (1, [], said + "fedhpro: 0 predicted, the above left out\n")
