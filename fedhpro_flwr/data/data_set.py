"""A data set in memory: two splits of tensors, the class names and the normalisation constants.

Images stay uint8 until a batch is made (a quarter of the memory of float32); `augment.to_float` turns a batch
into normalised floats on the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


# eq=False: comparing tensors element by element is never what `==` should mean here.
@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        inputs: uint8 images [N, ch, H, W] (0..255), float32 images [N, ch, H, W] or float32 vectors [N, F].
        labels: int64 class ids [N].

    Raises:
        ValueError: wrong type or shape, lengths that differ, no samples, negative labels, floats that are not
            finite.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        shape = list(self.inputs.shape)
        if self.inputs.dtype not in (torch.uint8, torch.float32):
            raise ValueError(f"inputs must be uint8 or float32, got {self.inputs.dtype}")
        if self.inputs.ndim not in (2, 4) or (self.inputs.ndim == 2 and self.inputs.dtype == torch.uint8):
            raise ValueError(f"inputs must be images [N, ch, H, W] or float32 vectors [N, F], got {shape}")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(f"labels must be int64 [N], got {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.labels) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} inputs but {len(self.labels)} labels: one label a sample is needed")
        if len(self.labels) == 0:
            raise ValueError("a split needs at least one sample, got none")
        if int(self.labels.min()) < 0:
            raise ValueError(f"labels must be 0 or larger, the smallest is {int(self.labels.min())}")
        if self.inputs.is_floating_point() and not bool(torch.isfinite(self.inputs).all()):
            raise ValueError("inputs hold NaN or infinite numbers, only finite ones are allowed")

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Split:
        """The samples `indices` [n], in that order."""
        return Split(self.inputs[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named data set with its training and test split.

    Args:
        name: the name it was loaded by.
        train, test: splits whose samples have the same shape.
        class_names: one name a class, its position is the label.
        mean, std: normalisation per channel of inputs scaled to [0, 1] (one number for vectors).

    Raises:
        ValueError: splits of different shapes, labels outside 0..C-1, mean or std of the wrong length,
            std <= 0.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise ValueError(
                f"data set {self.name!r}: training samples have shape {list(self.train.inputs.shape[1:])}, "
                f"test samples {list(self.test.inputs.shape[1:])}; they must agree"
            )
        for part, split in (("training", self.train), ("test", self.test)):
            largest = int(split.labels.max())
            if largest >= self.num_classes:
                raise ValueError(
                    f"data set {self.name!r}: a {part} label is {largest}, "
                    f"allowed are 0..{self.num_classes - 1} for {self.num_classes} classes"
                )
        channels = self.input_shape[0] if len(self.input_shape) == 3 else 1
        if len(self.mean) != channels or len(self.std) != channels:
            raise ValueError(
                f"data set {self.name!r}: mean and std need {channels} numbers each, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if min(self.std) <= 0:
            raise ValueError(f"data set {self.name!r}: std must be larger than 0, got {self.std}")

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (ch, H, W) or (F,)."""
        return tuple(self.train.inputs.shape[1:])
