"""`digit-domains`: several sets of digits in one, each a domain; the domain skew of FPL (Huang et al., CVPR 2023).

As published there, all images become 32x32 pixels with three channels and are normalised by ImageNet's constants.
Every registered data set of images with the classes 0 to 9 can be a domain.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.data.augment import IMAGENET_MEAN, IMAGENET_STD
from fedhpro_flwr.data.data_set import DataSet, Split
from fedhpro_flwr.data.digits import DIGITS
from fedhpro_flwr.data.domain_names import chosen_domains
from fedhpro_flwr.data.registry import DATA_SETS, OPTIONS, USES, DataSource, data_set

SHIPPED = ("mnist", "usps", "svhn", "svhn-part", "syn", "syn-rendered", "mnist-m", "digits")
DEFAULT_DOMAINS = ("mnist", "usps", "svhn", "syn")
DEFAULT_SIZE = 32  # pixels
CHUNK = 4096  # images resized at a time


@data_set("digit-domains", uses=("path", "domains", "image_size"))
def digit_domains(source: DataSource) -> DataSet:
    """The data sets that `domains` names as one, images [N, 3, S, S] with S = `image_size` or 32.

    Domain ids follow the order of the names. Within a domain the samples keep their order, and none is left out.

    Raises:
        ValueError: a name that is unknown or stands twice, or a data set that is not one of digit images.
        FileNotFoundError: a file of one of them is missing.
    """
    names = chosen_domains(
        source,
        DATA_SETS.keys() - {source.name},
        default=DEFAULT_DOMAINS,
        there_are=f"{', '.join(SHIPPED)}, and any data set with the classes 0 to 9 that you register",
    )
    if source.path and not any("path" in USES.get(name, OPTIONS) for name in names):
        raise ValueError(f"data.path = {source.path!r}: none of the domains {', '.join(names)} uses it; leave it out")
    size = source.image_size or DEFAULT_SIZE
    train: list[Split] = []
    test: list[Split] = []
    for name in names:
        try:
            part = DATA_SETS.find(name)(source.model_copy(update={"name": name, "domains": "", "image_size": 0}))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"data.domains = {','.join(names)!r}: {error}") from error
        is_images = part.train.inputs.dtype == torch.uint8 and part.input_shape[0] in (1, 3)
        if not is_images or part.class_names != DIGITS:
            raise ValueError(
                f"data.domains = {source.domains!r}: {name!r} is not a set of uint8 images of the digits 0 to 9, "
                f"as {', '.join(SHIPPED)} are"
            )
        train.append(part.train)
        test.append(part.test)
        del part  # or it would keep the last domain in memory when `join` has copied it
    return DataSet(
        "digit-domains", join(train, size), join(test, size), DIGITS, IMAGENET_MEAN, IMAGENET_STD, domain_names=names
    )


def join(domains: list[Split], size: int) -> Split:
    """One split of all domains, resized, with domain ids; empties `domains` to free their memory on the way.

    Args:
        domains: splits of uint8 images [n, 1 or 3, H, W].
        size: S, the new height and width.

    Returns:
        Images [N, 3, S, S].
    """
    counts = torch.tensor([len(split) for split in domains])
    labels = torch.cat([split.labels for split in domains])
    images = torch.empty(len(labels), 3, size, size, dtype=torch.uint8)
    start = 0
    while domains:
        inputs = domains.pop(0).inputs
        for chunk in torch.split(inputs, CHUNK):
            images[start : start + len(chunk)] = resize(chunk, size)  # one channel spreads to three
            start += len(chunk)
    return Split(images, labels, torch.repeat_interleave(torch.arange(len(counts)), counts))


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear, smoothed where images shrink, rounded: uint8 [N, ch, H, W] to [N, ch, size, size]."""
    if images.shape[2:] == (size, size):
        return images
    # In float32, so that pixels are rounded once and not after each of the two axes.
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round().to(torch.uint8)
