"""Which arrays of a .npz file are the samples to train on, to test on, and their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedhpro_flwr.listed import ten_of

Pair = tuple[str, str]  # names of the samples and of their labels

TRAIN: tuple[Pair, ...] = (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"))
TEST: tuple[Pair, ...] = (("x_test", "y_test"), ("test_images", "test_labels"))
# Ignored if there is a test part, as in MedMNIST's files; without one, whoever made the file wants these tested on.
VALIDATION: tuple[Pair, ...] = (("x_val", "y_val"), ("val_images", "val_labels"))


@dataclass(frozen=True)
class Header:
    """What is known of an array before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]


def layout(names: Sequence[str]) -> tuple[Pair | None, Pair | None]:
    """The training pair and the test pair of a file that holds arrays of these names; it has at least one of both.

    Raises:
        ValueError: no pair, several of a part, half a pair, or a validation but no test part.
    """
    train = [pair for pair in TRAIN if set(pair) <= set(names)]
    test = [pair for pair in TEST if set(pair) & set(names)]
    if not train and not any(set(pair) <= set(names) for pair in test):
        wanted = "; or ".join(", ".join(pair) for pair in TRAIN)
        raise ValueError(f"it holds {ten_of(names) or 'nothing'}; it needs {wanted}, and may have a test part")
    for part, found in (("training", train), ("test", test)):
        if len(found) > 1:
            held = [name for pair in found for name in pair if name in names]
            raise ValueError(f"it holds {', '.join(held)}: several {part} parts, of which one can be used; leave one")
    for samples, labels in test:
        if samples not in names or labels not in names:
            there, missing = (samples, labels) if samples in names else (labels, samples)
            raise ValueError(f"it holds {there} but not {missing}; give both or neither")
    validation = [name for pair in VALIDATION for name in pair if name in names]
    if validation and not test:
        raise ValueError(
            f"it holds {', '.join(validation)} but no test part: name it x_test, y_test to test on it, or leave it out"
        )
    return train[0] if train else None, test[0] if test else None


def refuse_unread(headers: Mapping[str, Header], read: Sequence[str]) -> None:
    """Look for arrays that somebody meant as samples or labels, and that nobody reads.

    An array of numbers is taken for one if it has the shape of the samples, or is as long as something that is or may
    be samples; texts and single numbers say something about the data and are left alone.

    Args:
        headers: of all arrays of the file.
        read: names of those that are used, the training samples first.

    Raises:
        ValueError: there are some; the message names them.
    """
    sample = headers[read[0]].shape[1:]
    known = {*read, *(name for pair in VALIDATION for name in pair)}
    others = {
        name: header.shape
        for name, header in headers.items()
        if name not in known and header.shape and np.issubdtype(header.dtype, np.number)
    }
    samples = {name for name, shape in others.items() if sample and shape[1:] == sample}
    lengths = {shape[0] for name, shape in others.items() if name in samples}
    lengths |= {headers[name].shape[0] for name in read if headers[name].shape}
    if unread := [name for name, shape in others.items() if name in samples or shape[0] in lengths]:
        raise ValueError(
            f"it also holds {ten_of(unread)}, which may be samples or labels and would not be read; take "
            f"{'it' if len(unread) == 1 else 'them'} out of the file (read are {', '.join(read)})"
        )
