"""A data set in memory: two splits of tensors, the names of its classes and domains, the normalisation constants.

Images stay uint8 until a batch is made (a quarter of the memory of float32); `augment.to_float` turns a batch
into normalised floats on the device. Text is token ids, padded with 0.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IndexArray = npt.NDArray[np.int64]  # ids of samples, labels or domains
PADDING = 0  # token id behind the end of a text
RANKS = {torch.uint8: (4,), torch.float32: (2, 4), torch.int32: (2,)}


# eq=False: comparing tensors element by element is never what `==` should mean here.
@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set.

    Args:
        inputs: uint8 images [N, ch, H, W] (0..255), float32 images [N, ch, H, W], float32 vectors [N, F], or int32
            token ids [N, L], PADDING behind the end of a text.
        labels: int64 class ids [N].
        domains: int64 domain ids [N]; None if all samples are of one domain.
        groups: int64 ids [N] of samples that stay together when a part is split off, like the pictures of one lesion.

    Raises:
        ValueError: no tensors, wrong type or shape, lengths that differ, no samples, samples without numbers, negative
            labels, domains or tokens, floats that are not finite.
    """

    inputs: Tensor
    labels: Tensor
    domains: Tensor | None = None
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        for name, given in (("inputs", self.inputs), ("labels", self.labels), ("domains", self.domains)):
            if not isinstance(given, Tensor) and not (name == "domains" and given is None):
                raise ValueError(
                    f"{name} must be a torch tensor, got {type(given).__name__}; torch.as_tensor makes one"
                )
        shape = list(self.inputs.shape)
        if self.inputs.dtype not in RANKS:
            raise ValueError(f"inputs must be uint8, float32 or int32, got {self.inputs.dtype}")
        if self.inputs.ndim not in RANKS[self.inputs.dtype]:
            raise ValueError(
                f"inputs must be images [N, ch, H, W], float32 vectors [N, F] or int32 tokens [N, L], got {shape}"
            )
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(f"labels must be int64 [N], got {self.labels.dtype} {list(self.labels.shape)}")
        if len(self.labels) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} inputs but {len(self.labels)} labels: one label a sample is needed")
        if len(self.labels) == 0:
            raise ValueError("a split needs at least one sample, got none")
        if 0 in shape:
            raise ValueError(f"a sample needs at least one number, got inputs of shape {shape}")
        if int(self.labels.min()) < 0:
            raise ValueError(f"labels must be 0 or larger, the smallest is {int(self.labels.min())}")
        if self.inputs.is_floating_point() and not bool(torch.isfinite(self.inputs).all()):
            raise ValueError("inputs hold NaN or infinite numbers, only finite ones are allowed")
        if self.inputs.dtype == torch.int32 and int(self.inputs.min()) < 0:
            raise ValueError(f"token ids must be 0 or larger, the smallest is {int(self.inputs.min())}")
        if self.domains is not None:
            if self.domains.dtype != torch.int64 or self.domains.shape != self.labels.shape:
                raise ValueError(
                    f"domains must be int64 [{len(self.labels)}], got {self.domains.dtype} {list(self.domains.shape)}"
                )
            if int(self.domains.min()) < 0:
                raise ValueError(f"domains must be 0 or larger, the smallest is {int(self.domains.min())}")
        if self.groups is not None and (self.groups.dtype != torch.int64 or self.groups.shape != self.labels.shape):
            raise ValueError(
                f"groups must be int64 [{len(self.labels)}], got {self.groups.dtype} {list(self.groups.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def kinds(self, num_classes: int) -> Tensor:
        """Class and domain of each sample as one number [N]: as many kinds as there are domains times classes."""
        return self.labels if self.domains is None else self.domains * num_classes + self.labels

    def subset(self, indices: Tensor | npt.NDArray[np.int64 | np.bool_] | slice) -> Split:
        """The samples `indices` [n], in that order; those of a slice are not copied."""
        if isinstance(indices, np.ndarray):
            indices = torch.from_numpy(indices)
        domains = None if self.domains is None else self.domains[indices]
        groups = None if self.groups is None else self.groups[indices]
        return Split(self.inputs[indices], self.labels[indices], domains, groups)

    def to(self, device: torch.device) -> Split:
        """The same samples on a device."""
        domains = None if self.domains is None else self.domains.to(device)
        groups = None if self.groups is None else self.groups.to(device)
        return Split(self.inputs.to(device), self.labels.to(device), domains, groups)

    def tensors(self) -> Iterator[Tensor]:
        """Inputs, labels and, if there are any, domains; not the groups, which say nothing about a sample itself."""
        yield from (tensor for tensor in (self.inputs, self.labels, self.domains) if tensor is not None)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A named data set with its training and test split.

    Args:
        name: the name it was loaded by.
        train, test: splits whose samples have the same shape.
        class_names: one name a class, its position is the label.
        mean, std: normalisation per channel of inputs scaled to [0, 1] (one number for vectors, not used for text);
            lists and arrays become tuples.
        domain_names: one name a domain, its position is the domain id; empty if the splits have no domains.
        vocabulary: of text, how many token ids there are, PADDING included; 0 for anything else.

    Raises:
        ValueError: splits of different shapes, labels, domains or tokens outside their range, names that are no text,
            mean or std of the wrong length or not finite, std <= 0.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    domain_names: tuple[str, ...] = ()
    vocabulary: int = 0

    def __post_init__(self) -> None:
        for field in ("class_names", "domain_names"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        for field in ("mean", "std"):
            numbers = np.asarray(getattr(self, field), dtype=np.float64)
            object.__setattr__(self, field, tuple(numbers.reshape(-1).tolist()))
        if self.train.inputs.shape[1:] != self.test.inputs.shape[1:]:
            raise ValueError(
                f"data set {self.name!r}: training samples have shape {list(self.train.inputs.shape[1:])}, "
                f"test samples {list(self.test.inputs.shape[1:])}; they must agree"
            )
        if (self.train.inputs.dtype == torch.int32) != (self.vocabulary > 0):
            raise ValueError(f"data set {self.name!r}: int32 token ids and a vocabulary belong together")
        for part, split in (("training", self.train), ("test", self.test)):
            if self.vocabulary and int(split.inputs.max()) >= self.vocabulary:
                raise ValueError(
                    f"data set {self.name!r}: a {part} token is {int(split.inputs.max())}, "
                    f"allowed are 0..{self.vocabulary - 1}"
                )
            if (split.domains is not None) != bool(self.domain_names):
                raise ValueError(f"data set {self.name!r}: domain names and the {part} split's domains belong together")
            if split.domains is not None and int(split.domains.max()) >= len(self.domain_names):
                raise ValueError(
                    f"data set {self.name!r}: a {part} domain is {int(split.domains.max())}, "
                    f"allowed are 0..{len(self.domain_names) - 1}"
                )
            largest = int(split.labels.max())
            if largest >= self.num_classes:
                raise ValueError(
                    f"data set {self.name!r}: a {part} label is {largest}, "
                    f"allowed are 0..{self.num_classes - 1} for {self.num_classes} classes"
                )
        for called in (*self.class_names, *self.domain_names):
            if not isinstance(called, str) or (not called.isascii() and re.search("[\ud800-\udfff]", called)):
                raise ValueError(
                    f"data set {self.name!r}: a class or domain is called {called!r}, which is no UTF-8 text; rename it"
                )
        channels = self.input_shape[0] if len(self.input_shape) == 3 else 1
        is_given = len(self.mean) == len(self.std) == channels
        if not is_given and len(self.input_shape) == 3 and self.input_shape[2] == len(self.mean):
            raise ValueError(
                f"data set {self.name!r}: images must be [N, ch, H, W], these are {list(self.train.inputs.shape)} with "
                "the channels last: permute(0, 3, 1, 2)"
            )
        if twice := sorted(name for name, times in Counter(self.class_names).items() if times > 1):
            raise ValueError(f"data set {self.name!r}: two classes are called {twice[0]!r}")
        if not is_given:
            raise ValueError(
                f"data set {self.name!r}: mean and std need {channels} numbers each, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if not np.isfinite((*self.mean, *self.std)).all() or min(self.std) <= 0:
            raise ValueError(
                f"data set {self.name!r}: mean {self.mean} and std {self.std} must be finite, and std larger than 0"
            )

    @cached_property
    def content(self) -> str:
        """Fingerprint of every sample and label: it changes with a file's content, though its name stays the same."""
        digest = hashlib.blake2b(digest_size=8)
        for split in (self.train, self.test):
            for tensor in split.tensors():
                digest.update(f"{tensor.dtype} {list(tensor.shape)} ".encode())
                digest.update(tensor.reshape(-1).numpy().data)
        return digest.hexdigest()

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample: (ch, H, W), (F,) or (L,)."""
        return tuple(self.train.inputs.shape[1:])

    @property
    def has_float_images(self) -> bool:
        """Whether samples are images of floats, in [0, 1]."""
        return self.train.inputs.ndim == 4 and self.train.inputs.is_floating_point()
