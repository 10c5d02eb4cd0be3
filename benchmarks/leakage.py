"""What a server can read out of class gradients and a model update, with and without defences: docs/privacy.md.

    python benchmarks/leakage.py                                  # digits-small, the model before and after 5 rounds
    python benchmarks/leakage.py --conf mnist-small --seeds 0     # another experiment, fewer victims

The victim is a client with n training samples of every class. The attacker is the server: it knows the model it sent
and has public data of the same kind, here the test data. It tries three things:

    probabilities   The head's W has full rank, so g^c = (mean p - e_c) W is solved for the mean probabilities of the
                    class. The number is the sum of their absolute errors.
    feature         The public class mean, moved as little as possible to where the head gives these probabilities.
    image           An image of the class, moved by Adam from the public class mean until its gradient is the received
                    one (with a prior for smoothness). For the model update, after one training step on one sample,
                    it is the gradient by all parameters (Geiping et al., Inverting Gradients, NeurIPS 2020).

What the victim has to hide is how its own class mean differs from the public one. Feature and image are reported as
the cosine of that difference with the one that the attacker found: 0 is nothing, 1 is all of it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from client_app.app import app as client_app  # noqa: E402
from fedhpro_flwr.class_means import ClassMeans  # noqa: E402
from fedhpro_flwr.client.gaussian_noise import seeded_normals  # noqa: E402
from fedhpro_flwr.client.privacy import blurred, without_small_classes  # noqa: E402
from fedhpro_flwr.client_data import ClientData  # noqa: E402
from fedhpro_flwr.config import RunConfig  # noqa: E402
from fedhpro_flwr.device import settle  # noqa: E402
from fedhpro_flwr.engine import federation  # noqa: E402
from fedhpro_flwr.gradient_matching import class_gradients  # noqa: E402
from fedhpro_flwr.head import Head  # noqa: E402
from fedhpro_flwr.initial_models import initial_model  # noqa: E402
from fedhpro_flwr.launch.in_process import run_in_process  # noqa: E402
from fedhpro_flwr.models import Model  # noqa: E402
from fedhpro_flwr.records import CLASS_COUNTS, CLASS_GRADIENTS, CLASS_IDS  # noqa: E402
from fedhpro_flwr.runs.run_folder import MODEL_FILE  # noqa: E402
from fedhpro_flwr.seeding import Draws  # noqa: E402
from fedhpro_flwr.settings.from_command_line import prepare  # noqa: E402
from server_app.app import app as server_app  # noqa: E402

STEPS, RATE, SMOOTHNESS = 200, 0.03, 1e-3
SMALLEST = 1e-12  # of a probability, before its logarithm is taken


@dataclass(frozen=True)
class Defence:
    """Settings of `privacy.*` for what is sent of classes, or of the model."""

    name: str
    min_samples: int = 1
    clip: float = 0.0
    noise: float = 0.0


DEFENCES = (
    Defence("none"),
    Defence("min-samples 5", min_samples=5),
    Defence("clip 1", clip=1.0),
    Defence("clip 1, noise 0.01", clip=1.0, noise=0.01),
    Defence("clip 1, noise 0.1", clip=1.0, noise=0.1),
    Defence("clip 1, noise 1", clip=1.0, noise=1.0),
)
UPDATE_DEFENCES = tuple(defence for defence in DEFENCES if defence.min_samples == 1 and defence.noise < 1)


@dataclass(frozen=True, eq=False)
class Public:
    """What the attacker has of the same kind of data: means over the test samples."""

    images: Tensor  # [C, ch, H, W] in [0, 1]
    features: Tensor  # [C, D]

    @classmethod
    def of(cls, model: Model, data: ClientData) -> Public:
        """From the test part of the data set."""
        assert data.test is not None
        images, labels = data.test.inputs.float() / 255, data.test.labels
        flat = ClassMeans.of(images.flatten(1), labels, model.num_classes).means
        features = model.encoder(data.encoder_inputs(data.test.inputs))
        return cls(flat.view(-1, *images.shape[1:]), ClassMeans.of(features, labels, model.num_classes).means)


def found(guess: Tensor, truth: Tensor, public: Tensor) -> float:
    """Mean cosine of what was guessed with what is so, both as differences from what is public: [C, ...] each."""
    return float(F.cosine_similarity((guess - public).flatten(1), (truth - public).flatten(1), dim=1).mean())


def roughness(images: Tensor) -> Tensor:
    """Total variation: mean absolute difference of neighbouring pixels, summed over the images [C, ch, H, W]."""
    down, right = images.diff(dim=2).abs().mean(dim=(1, 2, 3)), images.diff(dim=3).abs().mean(dim=(1, 2, 3))
    return (down + right).sum()


def normalised(images: Tensor, data: ClientData) -> Tensor:
    """Images in [0, 1] as the encoder takes them, with their graph."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    result: Tensor = (images - mean) / std
    return result


def solved_probabilities(gradients: Tensor, head: Head) -> Tensor:
    """The mean probabilities of each class from g = (mean p - e_c) W: [C, D] -> [C, C]."""
    inverse: Tensor = torch.linalg.pinv(head.weight)
    return gradients @ inverse + torch.eye(head.num_classes)


def likely_features(p: Tensor, head: Head, public: Tensor) -> Tensor:
    """public [C, D] moved the least way to features whose logits are log p [C, C], up to a constant a row."""
    wanted = p.clamp_min(SMALLEST).log() - head.logits(public)
    inverse: Tensor = torch.linalg.pinv(head.weight - head.weight.mean(dim=0))
    return public + (wanted - wanted.mean(dim=1, keepdim=True)) @ inverse.T


def inverted_classes(model: Model, data: ClientData, gradients: Tensor, start: Tensor) -> Tensor:
    """Images [C, ch, H, W], one a class, whose class gradients are the received ones [C, D]."""
    labels = torch.arange(model.num_classes)
    weight = model.head.weight.detach()
    scale = gradients.square().sum(dim=1).clamp_min(SMALLEST)

    def misfit(images: Tensor) -> Tensor:
        p = model(normalised(images, data)).softmax(dim=1)
        off: Tensor = (p - F.one_hot(labels, model.num_classes)) @ weight - gradients  # [C, D]
        return (off.square().sum(dim=1) / scale).sum()

    return _optimised(start, misfit)


def inverted_update(model: Model, data: ClientData, update: Sequence[Tensor], label: int, start: Tensor) -> Tensor:
    """The image [1, ch, H, W] whose gradient by all parameters points where the received one does."""
    parameters = list(model.parameters())
    known = torch.cat([part.flatten() for part in update])

    def misfit(image: Tensor) -> Tensor:
        loss = F.cross_entropy(model(normalised(image, data)), torch.tensor([label]))
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)
        return 1 - F.cosine_similarity(torch.cat([part.flatten() for part in gradient]), known, dim=0)

    return _optimised(start, misfit)


def _optimised(start: Tensor, misfit: Callable[[Tensor], Tensor]) -> Tensor:
    images = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([images], lr=RATE)
    for _ in range(STEPS):
        (gradient,) = torch.autograd.grad(misfit(images) + SMOOTHNESS * roughness(images), images)
        images.grad = gradient
        optimizer.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return images.detach()


def victim(data: ClientData, num_classes: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """The uint8 images and labels of a client with so many samples of each class."""
    assert data.train is not None
    order = torch.randperm(len(data.train), generator=Draws(seed).torch("victim"))
    labels = data.train.labels[order]
    chosen = torch.cat([order[labels == label][:samples] for label in range(num_classes)])
    return data.train.inputs[chosen], data.train.labels[chosen]


def class_gradient_rows(model: Model, data: ClientData, samples: int, seeds: Sequence[int]) -> None:
    """Print a line of the table for each defence; numbers are means over the victims."""
    head = Head(model.head.weight.detach(), model.head.bias.detach())
    public = Public.of(model, data)
    for defence in DEFENCES:
        if defence.min_samples > 1 and samples >= defence.min_samples:
            continue
        errors, features, images = [], [], []
        for seed in seeds:
            inputs, labels = victim(data, model.num_classes, samples, seed)
            z = model.encoder(data.encoder_inputs(inputs))
            sent = class_gradients(z, labels, head)
            kept = without_small_classes(
                {CLASS_IDS: sent.class_ids, CLASS_COUNTS: sent.counts, CLASS_GRADIENTS: sent.by_features},
                defence.min_samples,
            )[CLASS_GRADIENTS]
            if not len(kept):
                break
            if defence.clip > 0:
                (kept,) = blurred([kept], defence.clip, defence.noise, seeded_normals(Draws(seed, 1)))
            true_p = ClassMeans.of(model.head(z).softmax(dim=1), labels, model.num_classes).means
            true_feature = ClassMeans.of(z, labels, model.num_classes).means
            true_image = ClassMeans.of(inputs.flatten(1) / 255, labels, model.num_classes).means
            true_image = true_image.view(-1, *inputs.shape[1:])
            p = solved_probabilities(kept, head)
            errors.append(float((p - true_p).abs().sum(dim=1).mean()))
            features.append(found(likely_features(p, head, public.features), true_feature, public.features))
            images.append(found(inverted_classes(model, data, kept, public.images), true_image, public.images))
        if not errors:
            print(f"| {samples} | {defence.name} | nothing sent | | |", flush=True)
            continue
        told = [statistics.fmean(values) for values in (errors, features, images)]
        print(f"| {samples} | {defence.name} | {' | '.join(f'{number:.2f}' for number in told)} |", flush=True)


def model_update_rows(model: Model, data: ClientData, seeds: Sequence[int], lr: float) -> None:
    """The same for the update of a client that has one sample and trains one step on it."""
    public = Public.of(model, data)
    for defence in UPDATE_DEFENCES:
        guesses, truth, starts = [], [], []
        for seed in seeds:
            for place, (image, label) in enumerate(zip(*victim(data, model.num_classes, 1, seed), strict=True)):
                loss = F.cross_entropy(model(data.encoder_inputs(image[None])), label[None])
                change = [-lr * part for part in torch.autograd.grad(loss, list(model.parameters()))]
                if defence.clip > 0:
                    noise = seeded_normals(Draws(seed, 1, place))
                    change = blurred(change, defence.clip, defence.noise, noise)
                start = public.images[label][None]
                guesses.append(inverted_update(model, data, [-part for part in change], int(label), start))
                truth.append(image[None] / 255)
                starts.append(start)
        told = found(torch.cat(guesses), torch.cat(truth), torch.cat(starts))
        print(f"| {defence.name} | {told:.2f} |", flush=True)


def trained(config: RunConfig, rounds: int) -> dict[str, Tensor]:
    """The global model after a run of so many rounds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = config.flat() | {"run-folder": folder, "rounds": rounds}
        run_in_process(server_app, client_app, config.partition.num_partitions, settings)
        return load_file(Path(folder) / MODEL_FILE)


def main() -> None:
    """Print both tables, for the model before round 1 and after some rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conf", default="digits-small", help="an experiment of conf/ with images, or a TOML file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, nargs="+", default=[0, 5], help="after how many the model is attacked")
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 5, 20], help="of each class at the victim")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one victim each")
    options = parser.parse_args()
    getLogger("flwr").setLevel(ERROR)
    config = prepare(options.conf, options.set)
    settle(config)
    shared = federation(config).data
    data = ClientData(shared.train, shared.test, shared.mean, shared.std)
    model = initial_model(config, shared).eval()
    for rounds in options.rounds:
        if rounds:
            model.load_state_dict(trained(config, rounds))
        model.eval().requires_grad_(False)
        print(f"\n{config.experiment}, class gradients, the model after {rounds} rounds:\n")
        print("| n | defence | error of p | feature | image |\n|---:|---|---:|---:|---:|")
        for samples in options.samples:
            class_gradient_rows(model, data, samples, options.seeds)
        model.requires_grad_(True)
        _exact_gradients(model)
        print(f"\n{config.experiment}, model update, the model after {rounds} rounds:\n")
        print("| defence | image |\n|---|---:|")
        model_update_rows(model, data, options.seeds[:1], config.local.lr)


def _exact_gradients(model: Model) -> None:
    for part in model.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # the attack differentiates twice


if __name__ == "__main__":
    main()
