"""Ways to break a reply: each takes a generator and the records of a good reply, and breaks them in place."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from random import Random

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

Records = dict[str, ArrayRecord | MetricRecord | ConfigRecord]
Breaker = Callable[[Random, Records], None]
BREAKERS: dict[str, Breaker] = {}
MAY_BE_HARMLESS = {"a byte changed", "a metric replaced", "an entry replaced"}  # the checks decide
SENTENCE = "a payload that must not run"
NEEDED = ("model", "class-gradients", "class-ids", "class-counts", "metrics")  # a test of its own is a client's choice


def breaker(name: str) -> Callable[[Breaker], Breaker]:
    def register(change: Breaker) -> Breaker:
        BREAKERS[name] = change
        return change

    return register


class Payload:
    """Raises the moment that it is unpickled."""

    def __reduce__(self):
        return exec, (f"raise SystemExit({SENTENCE!r})",)


def any_tensor(random: Random, records: Records, kind: str = "") -> tuple[ArrayRecord, str, np.ndarray]:
    """A record, the name of one of its tensors, and its numbers; `kind` is NumPy's letter, "f" or "i"."""
    choices = [
        (record, name, array.numpy())
        for record in records.values()
        if isinstance(record, ArrayRecord)
        for name, array in record.items()
    ]
    return random.choice([choice for choice in choices if not kind or choice[2].dtype.kind == kind])


def saved(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


def written(dtype: str, shape: str, order: str = "False", data: bytes = b"") -> bytes:
    """NumPy's file format with a header of one's own."""
    header = f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def as_tensor(data: bytes, stype: str = "numpy.ndarray") -> Array:
    return Array("float32", (3,), stype, data)


# --- records


@breaker("a record left out")
def _(random: Random, records: Records) -> None:
    del records[random.choice(NEEDED)]


@breaker("a record under another name")
def _(random: Random, records: Records) -> None:
    name = random.choice(NEEDED)
    records[random.choice(["", "x", name.upper(), f"{name} "])] = records.pop(name)


@breaker("a record of another kind")
def _(random: Random, records: Records) -> None:
    name = random.choice(NEEDED)
    other = MetricRecord({name: 1}) if isinstance(records[name], ArrayRecord) else ArrayRecord()
    records[name] = random.choice([other, ConfigRecord({name: "1"})])


@breaker("an empty record")
def _(random: Random, records: Records) -> None:
    name = random.choice(list(records))
    records[name] = type(records[name])()


# --- tensors


@breaker("a tensor left out")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    del record[name]


@breaker("a tensor under another name")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    record[random.choice(["", "x", "../model", f"{name}\n\x1b[2J", name * 1000])] = record.pop(name)


@breaker("a tensor too many")
def _(random: Random, records: Records) -> None:
    records["model"]["backdoor"] = Array(np.zeros(random.randrange(4), np.float32))


@breaker("another shape")
def _(random: Random, records: Records) -> None:
    record, name, values = any_tensor(random, records)
    changes = [values[None], values.reshape(-1)[:0], np.concatenate([values.reshape(-1)] * 2)]
    changes += [values.reshape(-1)[0]] if values.ndim and values.size else []
    changes += [np.zeros((0, *values.shape[1:]), values.dtype)] if name.startswith(("head", "encoder")) else []
    record[name] = Array(np.asarray(random.choice([change for change in changes if change.shape != values.shape])))


@breaker("another type")
def _(random: Random, records: Records) -> None:
    record, name, values = any_tensor(random, records)
    types = ["f2", "f4", "f8", "i4", "i8", "u1", "u8", "?", "c8", "c16", ">f4", ">i8", "U3", "S2", "M8[s]", "V0", "V4"]
    record[name] = Array(
        np.zeros(values.shape, random.choice([dtype for dtype in types if dtype != values.dtype.str[1:]]))
    )


@breaker("no number")
def _(random: Random, records: Records) -> None:
    record, name, values = any_tensor(random, records, "f")
    values = values.copy()
    values.flat[random.randrange(values.size)] = random.choice([math.nan, math.inf, -math.inf, 1.1e9, -3e38])
    record[name] = Array(values)


@breaker("a negative variance")
def _(random: Random, records: Records) -> None:
    records["model"]["encoder.1.running_var"] = Array(np.float32([random.choice([-1e-30, -1.0, -1e9]), 1, 1]))


@breaker("a counter run away")
def _(random: Random, records: Records) -> None:
    records["model"]["encoder.1.num_batches_tracked"] = Array(np.array(random.choice([2**63 - 1, -(2**63), 2**32])))


@breaker("an entry replaced")
def _(random: Random, records: Records) -> None:
    record, name, values = any_tensor(random, records)
    values = values.copy()
    values.flat[random.randrange(values.size)] = random.choice([0, 1, -1, 2**31 - 1, 7])
    record[name] = Array(values)


# --- classes


@breaker("class ids")
def _(random: Random, records: Records) -> None:
    ids = random.choice([[0, 0], [-1, 0], [0, 5], [2**62, 1], [-(2**63), 2]])
    records["class-ids"] = ArrayRecord({"class-ids": Array(np.array(ids))})


@breaker("class counts")
def _(random: Random, records: Records) -> None:
    counts = random.choice([[0, 1], [-1, 3], [2**63 - 1, 2**63 - 1], [2**40, 1], [9999, 1], [1, -(2**63)]])
    records["class-counts"] = ArrayRecord({"class-counts": Array(np.array(counts))})


@breaker("fewer classes in one record")
def _(random: Random, records: Records) -> None:
    name = random.choice(["class-ids", "class-counts", "class-gradients"])
    records[name] = ArrayRecord({name: Array(records[name][name].numpy()[:1])})


# --- numbers


@breaker("num-examples or partition-id")
def _(random: Random, records: Records) -> None:
    key = random.choice(["num-examples", "partition-id"])
    wrong = [-1, 2**62, 77.0, math.nan, math.inf, [1], [1.0, 2.0], 10**30, *([0] if key == "num-examples" else [])]
    records["metrics"][key] = random.choice(wrong)


@breaker("a metric that is no number")
def _(random: Random, records: Records) -> None:
    records["metrics"][random.choice(["train-loss", "other"])] = random.choice([math.nan, math.inf, -1e101, 10**101])


@breaker("names or number of metrics")
def _(random: Random, records: Records) -> None:
    many = {f"m{place}": 0.0 for place in range(1001)}
    records["metrics"].update(random.choice([many, {"a" * 101: 1}, {"a\nb": 1}, {"\x1b[2J": 1.0}, {"\u202e": 2}]))


@breaker("a metric replaced")
def _(random: Random, records: Records) -> None:
    names = [*records["metrics"], "seconds-x", ""]
    records["metrics"][random.choice(names)] = random.choice([1, 0, 2**40, -5.5, 1e99, [], [1, 2]])


# --- bytes


@breaker("bytes cut off")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    data = record[name].data
    record[name] = as_tensor(data[: random.randrange(len(data))])


@breaker("a byte changed")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    data = bytearray(record[name].data)
    data[random.randrange(len(data))] = random.randrange(256)
    record[name] = as_tensor(bytes(data))


@breaker("bytes of chance")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    start = random.choice([b"", b"PK\x03\x04", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00", b"\x80\x04"])
    record[name] = as_tensor(start + random.randbytes(random.randrange(200)))


@breaker("another header")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    headers = [
        written("'<f4'", "(1000000000000,)"),
        written("'<f4'", "(-1,)"),
        written("'<f4'", "(4611686018427387904, 4)"),
        written("'<f4'", "(4611686018427387904, 0)"),
        written("'V0'", "(9223372036854775807,)"),
        written("'<f4'", "(" * 150 + ")" * 150),
        written("'<f4'", "(" * 9000),
        written("'<f4'", "(True, 3)", data=bytes(12)),
        written("[('a', '<f4'), ('b', '<i8')]", "(3,)", data=bytes(36)),
        written("'<f4', 'descr': '|O'", "(3,)", data=pickle.dumps(Payload())),
        written("__import__('os')", "(3,)"),
        written("'<f4'", "(3,)", "1", bytes(12)),
        written("'<f4'", "3", data=bytes(12)),
    ]
    record[name] = as_tensor(random.choice(headers))


@breaker("pickles")
def _(random: Random, records: Records) -> None:
    record, name, _ = any_tensor(random, records)
    payload = np.array([Payload()] * 3, dtype=object)
    bundle = io.BytesIO()
    np.savez(bundle, a=payload)
    data = random.choice([saved(payload, allow_pickle=True), pickle.dumps(Payload()), bundle.getvalue()])
    record[name] = as_tensor(data, random.choice(["numpy.ndarray", "numpy.ndarray", "pickle", "", "torch.Tensor"]))


# --- the client's own test


@breaker("a confusion of its own")
def _(random: Random, records: Records) -> None:
    cells = random.choice(
        [[[0, 0, 9, 1]], [[1, 0, 0, 1]], [[0, 0, 0, -1]], [[0, 0, 0, 2**41]], [[0, 0, 0, 1]] * 2, [[1]]]
    )
    records["confusion"] = ArrayRecord({"confusion": Array(np.array(cells))})
