r"""What a client holds back of its reply: classes with few samples, length beyond a norm (clipping), and exact
values (noise).

.. math::
    \tilde v = v \min(1, M / |v|) + s M \xi, \qquad \xi \sim N(0, I)

once for the class tensors of a reply as one vector and once for the change of the model as one vector; M is
`privacy.class-clip` or `privacy.model-clip`, s `privacy.class-noise` or `privacy.model-noise`. Clipping: McMahan et
al., Learning Differentially Private Recurrent Language Models, ICLR 2018. The noise is the client's own and whole, so
the server is not trusted with anything (local differential privacy). What epsilon then means: docs/privacy.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from logging import ERROR

import torch
from flwr.common.logger import log
from torch import Tensor

from fedhpro_flwr.aggregation import VARIANCE
from fedhpro_flwr.client.gaussian_noise import Normals, normals
from fedhpro_flwr.client.personal import PersonalState
from fedhpro_flwr.client.privacy_account import epsilon_of, reply_mu, spend
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_IDS, CLASS_TENSORS, Broadcast, Tensors, Update

EPSILON, EPSILON_IF_SECRET = "epsilon", "epsilon-if-secret"  # of a client's replies so far; the second if "seeded"


def protected(update: Update, received: Broadcast, num_classes: int, state: PersonalState | None = None) -> Update:
    """The part of a reply that leaves the client under the settings `privacy.*`: with their defaults all of it,
    unchanged.

    Args:
        update: the reply as the visit made it.
        received: what it answers.
        num_classes: C.
        state: where the client keeps its privacy account; needed with `privacy.withhold`.

    Raises:
        ValueError: the reply names classes without their counts, by which small ones are held back; or, with
            `privacy.withhold`, it has a record that no noise covers, or the account is missing or damaged.
    """
    privacy, task = received.config.privacy, received.task
    uncounted = CLASS_IDS in update.tensors and CLASS_COUNTS not in update.tensors
    if uncounted and (privacy.min_samples > 1 or privacy.withhold):
        raise ValueError(f"privacy.min-samples, privacy.withhold: the reply has {CLASS_IDS} and no {CLASS_COUNTS}")
    tensors = without_small_classes(update.tensors, privacy.min_samples)
    if privacy.withhold:
        tensors = of_every_class(tensors, num_classes)
    noise = normals(privacy.noise, received.draws)
    of_classes = [name for name in tensors if name in CLASS_TENSORS]
    if privacy.class_clip > 0:
        noised = blurred([tensors[name] for name in of_classes], privacy.class_clip, privacy.class_noise, noise)
        tensors |= dict(zip(of_classes, noised, strict=True))
    model = update.model
    if privacy.model_clip > 0:
        model = blurred_model(model, received.model, privacy.model_clip, privacy.model_noise, noise)
    update = replace(update, model=model, tensors=tensors)
    if not privacy.withhold:
        return update

    bare = sorted(tensors.keys() - {*CLASS_TENSORS, CLASS_IDS, CLASS_COUNTS})
    if bare:
        raise ValueError(f"privacy.withhold: {bare[0]} would leave the client without noise")
    multipliers = [privacy.class_noise] * bool(of_classes) + [privacy.model_noise] * bool(model)
    if not all(multipliers):
        raise ValueError("privacy.withhold needs noise on all that is sent: privacy.class-noise, privacy.model-noise")
    if state is None:
        raise ValueError("privacy.withhold needs a folder for the client's privacy account: clients.state-path")
    mu = spend(state.folder, task.server_round, reply_mu(multipliers))
    name = EPSILON if privacy.noise == "secret" else EPSILON_IF_SECRET
    # C in place of the number of samples: the same for every client, and no less than the class counts, C ones.
    return replace(update, num_examples=num_classes, metrics={name: epsilon_of(mu, privacy.delta)}, test=None)


@contextmanager
def reasons_kept(withhold: bool) -> Iterator[None]:
    """Tell what goes wrong in the client's own log alone: an error's message may quote a label or a number.

    Args:
        withhold: `privacy.withhold`; without it errors pass unchanged.

    Raises:
        ValueError: in place of any error, always with the same message.
    """
    try:
        yield
    except Exception as error:
        if not withhold:
            raise
        log(ERROR, "%s: %s", type(error).__name__, error, exc_info=error)
        raise ValueError("failed; privacy.withhold keeps the reason in the log of its own node") from None


def without_small_classes(tensors: Tensors, least: int) -> dict[str, Tensor]:
    """The class tensors [P, ...], ids [P] and counts [P] of a reply without the classes of fewer than `least` samples.

    To the server such a class is one that the client does not hold. Other tensors stay.
    """
    if least <= 1 or CLASS_COUNTS not in tensors:
        return dict(tensors)
    kept = tensors[CLASS_COUNTS] >= least  # [P]
    rows = {CLASS_IDS, CLASS_COUNTS, *CLASS_TENSORS}
    return {name: tensor[kept.to(tensor.device)] if name in rows else tensor for name, tensor in tensors.items()}


def of_every_class(tensors: Tensors, num_classes: int) -> dict[str, Tensor]:
    """The tensors of a reply with a row for each of the C classes, zero if the client lacks it, and all counts 1.

    Which classes a client holds, and how many samples of each, then shows only in rows that the noise covers.
    """
    if CLASS_IDS not in tensors:
        return dict(tensors)
    ids = tensors[CLASS_IDS]
    filled = dict(tensors)
    for name in CLASS_TENSORS:
        if name in tensors:
            rows = tensors[name]
            filled[name] = rows.new_zeros(num_classes, *rows.shape[1:]).index_copy(0, ids.to(rows.device), rows)
    return filled | {
        CLASS_IDS: torch.arange(num_classes).to(ids),
        CLASS_COUNTS: torch.ones(num_classes).to(tensors[CLASS_COUNTS]),
    }


def blurred(tensors: Sequence[Tensor], longest: float, multiplier: float, noise: Normals) -> list[Tensor]:
    """Tensors that are one vector v together: v min(1, M / |v|) + s M xi, computed in float64.

    Args:
        tensors: floating, of any shapes.
        longest: M.
        multiplier: s; at 0 no noise is drawn, and a vector that is short enough stays as it is, bit for bit.
        noise: gives xi.

    Returns:
        Tensors of the same shapes, types and devices. With noise, a vector with a number that is not finite counts as
        zero: it has no norm to be clipped to.
    """
    norm = math.sqrt(math.fsum(float(torch.linalg.vector_norm(tensor.double())) ** 2 for tensor in tensors))
    if multiplier == 0 and not norm > longest:
        return list(tensors)
    result = []
    for tensor in tensors:
        clipped = tensor.double() * min(1.0, longest / norm) if norm > 0 else tensor.double()
        if multiplier > 0:
            clipped = clipped if math.isfinite(norm) else torch.zeros_like(clipped)
            drawn = noise(tensor.numel()).view(tensor.shape).to(tensor.device)
            clipped = clipped + multiplier * longest * drawn
        result.append(clipped.to(tensor.dtype))
    return result


def blurred_model(
    model: Tensors, sent: Tensors, longest: float, multiplier: float, noise: Normals
) -> dict[str, Tensor]:
    """w + `blurred`(w_k - w): the floating tensors of a model, parameters and buffers, are one vector.

    Integer tensors, BatchNorm's counters of batches, tell how many batches the client has: with noise they stay as
    received. A variance that the noise makes negative becomes zero: processing noised numbers reveals nothing more.

    Args:
        model: w_k, the part that travels.
        sent: w, as the client received it.
        longest, multiplier, noise: as for `blurred`.
    """
    floating = [name for name, tensor in model.items() if tensor.is_floating_point()]
    before = {name: sent[name].to(model[name].device) for name in model}
    moved = [model[name].double() - before[name].double() for name in floating]
    changes = dict(zip(floating, blurred(moved, longest, multiplier, noise), strict=True))
    if multiplier == 0 and all(changes[name] is change for name, change in zip(floating, moved, strict=True)):
        return dict(model)
    result = {}
    for name, tensor in model.items():
        if name not in changes:
            result[name] = before[name] if multiplier > 0 else tensor
            continue
        noised = (before[name].double() + changes[name]).to(tensor.dtype)
        result[name] = noised.clamp_min(0.0) if name.endswith(VARIANCE) else noised
    return result


def worst_spent(told: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The largest epsilon among the clients' numbers of a round, or the rounds' of a run; empty if there is none."""
    numbers = list(told)
    values = {name: [each[name] for each in numbers if name in each] for name in (EPSILON, EPSILON_IF_SECRET)}
    return {name: max(given) for name, given in values.items() if given}
