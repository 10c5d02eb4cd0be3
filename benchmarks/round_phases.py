"""What every phase of a round costs with C classes: CPU seconds, FLOPs and bytes of the project's own functions.

The client has 1,240 images of 32x32 and a ResNet-10 with D = 256, filled with random numbers. It holds every class, the
most expensive case for what it sends. Where each part costs the same, a few are run and the rest is scaled: local
training by images, calibration by classes and steps, sums by clients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from round_costs import (
    CALIBRATION,
    CHECK,
    CLASS_GRADIENT,
    CLASS_MEANS,
    CONTROL,
    LINEAR,
    LOCAL,
    LOSSES,
    MARGIN,
    MATCHING,
    MODELS,
    Cost,
    RoundCosts,
    counted,
    measured,
)
from round_inputs import images, message_of

from client_app.visit import train
from fedhpro_flwr.aggregation import class_mean, weighted_mean
from fedhpro_flwr.calibration import match_prototypes, retrain_head
from fedhpro_flwr.config import RunConfig, Scalar
from fedhpro_flwr.gradient_matching import class_gradients
from fedhpro_flwr.head import Head
from fedhpro_flwr.hyper_prototypes import HyperPrototypes
from fedhpro_flwr.methods import Arrival, Batch, build_method
from fedhpro_flwr.methods.corrected import CorrectedFedHPro, CorrectedState
from fedhpro_flwr.models import build
from fedhpro_flwr.records import (
    CLASS_GRADIENTS,
    HEAD_BIAS_GRADIENTS,
    HEAD_WEIGHT_GRADIENTS,
    HYPER_PROTOTYPES,
    Broadcast,
    Task,
    Tensors,
    Update,
    array_record,
    class_rows,
    pack_broadcast,
    pack_update,
    record_bytes,
)
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.server.reply_checks import Expected, unpack_update
from fedhpro_flwr.timing import Stopwatch

WIDTH, BATCH, EPOCHS, CLIENT_IMAGES = 256, 64, 10, 1240  # D, and a client of the reference's long-tailed CIFAR-10
TIMED_IMAGES = 128  # two batches of local training
SUMMED = 10  # clients that a sum over clients is timed with
LARGE = 397  # classes from which on what works on head gradients [C, C, D] is timed once, sums with two clients
SETTINGS: Mapping[str, Scalar] = {
    "model.name": "resnet10", "model.width": WIDTH,
    "local.epochs": 1, "local.batch-size": BATCH, "local.lr": 0.01, "local.momentum": 0.0,
    "local.augment": "per-sample",
}  # fmt: skip


class Measured:
    """One method at C classes, its round taken apart.

    Args:
        settings: of the method, as for `RunConfig.parse`.
        num_classes: C.
    """

    def __init__(self, settings: Mapping[str, Scalar], num_classes: int) -> None:
        self.config = RunConfig.parse({**SETTINGS, **settings})
        self.classes, self.method = num_classes, build_method(self.config)
        model = build("resnet10", input_shape=(3, 32, 32), num_classes=num_classes, seed=0)
        self.model = model.to(memory_format=torch.channels_last)
        self.data, self.few = images(CLIENT_IMAGES, num_classes), images(TIMED_IMAGES, num_classes)
        self.sent: Tensors = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.state = self.method.start(self.sent)
        self.received = Broadcast(self.sent, self.method.broadcast(self.state), self.config, Task(1, 0))
        self.head = Head(self.sent["head.weight"], self.sent["head.bias"])
        self.hyper = self.received.tensors.get(HYPER_PROTOTYPES)  # S [C, K, D], None for FedAvg
        self.first, self.upload = self.arrival(), dict[str, torch.Tensor]()
        self.upload_flops = counted(lambda: self.upload.update(self.method.upload(self.first)))
        self.repeats = 1 if self.calibrates and num_classes >= LARGE else 3  # of what takes many seconds there

    def arrival(self) -> Arrival:
        """The client as it has just received the model."""
        return Arrival(self.model, self.data, self.received, Draws(0, 1, 0))

    def costs(self, local: Cost | None = None) -> RoundCosts:
        """Measure every phase; `local` is the training of the network where another method has measured it."""
        client = {LOCAL: local or self.local_training()} | (self.client_extra() if self.hyper is not None else {})
        server: dict[str, Cost] = {}
        if self.hyper is not None and CLASS_GRADIENTS in self.upload:  # frozen hyper-prototypes ask for none
            server[MATCHING] = self.matching(HyperPrototypes(self.hyper))
        if self.calibrates:
            server[CALIBRATION] = self.calibration()
        records = {name: array_record({name: tensor}) for name, tensor in self.received.tensors.items()}
        down = pack_broadcast(array_record(self.sent), records, self.config.flat(), self.received.task)
        return RoundCosts(client, self.sums(), server, record_bytes(down), record_bytes(pack_update(self.update())))

    # --- the client ---------------------------------------------------------------------------------------------------

    def local_training(self) -> Cost:
        """All epochs on the cross-entropy alone."""
        taken = measured(lambda: train(self.model, self.few, self.config.local, None, Draws(0)))
        return taken.scaled(EPOCHS * CLIENT_IMAGES / TIMED_IMAGES)

    def client_extra(self) -> dict[str, Cost]:
        """What a visit of FedHPro adds, by the method's own hooks."""
        options, labels = self.config.class_gradients, self.first.train.labels
        features = torch.randn(CLIENT_IMAGES, WIDTH, generator=torch.Generator().manual_seed(0)).relu()  # z [n, D]
        # Where class gradients are taken on all samples, the margin finds their features at hand.
        shared = options.samples_per_class == 0 and options.augment == "none"
        z, batch_labels = features[:BATCH], labels[:BATCH]
        extra, steps = self.method.local_loss(self.first), EPOCHS * math.ceil(CLIENT_IMAGES / BATCH)

        def linear() -> None:
            class_gradients(features, labels, self.head, scale=options.scale, head_gradients=self.calibrates)

        def losses() -> None:
            leaf = z.clone().requires_grad_()
            if extra is not None:
                extra(Batch(leaf, batch_labels, leaf)).backward()  # type: ignore[no-untyped-call]

        gradients = {
            CLASS_GRADIENT: measured(lambda: self.method.upload(self.arrival()), repeats=2, flops=self.upload_flops),
            LINEAR: measured(linear),
        }
        return (gradients if CLASS_GRADIENTS in self.upload else {}) | {
            MARGIN: measured(lambda: self.method.local_loss(self.first if shared else self.arrival())),
            LOSSES: measured(losses, repeats=20).scaled(steps),
            **self.control_at_client(steps),
        }

    def control_at_client(self, steps: int) -> dict[str, Cost]:
        """Correcting the gradients of so many steps, and the new control variate at the end."""
        correction = self.method.correction(self.first)
        if correction is None:
            return {}
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        each = measured(correction, repeats=20).scaled(steps)
        self.model.zero_grad()
        begun = measured(lambda: self.method.correction(self.first))
        return {CONTROL: each.plus(begun).plus(measured(lambda: self.method.depart(self.first, steps)))}

    # --- the server ---------------------------------------------------------------------------------------------------

    def sums(self) -> dict[str, Cost]:
        """What each reply costs the server; the mean of the models is of distinct ones, as caches hold one of them."""
        expected = Expected(self.sent, self.method.expects(self.state), self.classes)
        reply = message_of(self.update())
        models = [{name: tensor.clone() for name, tensor in self.sent.items()} for _ in range(SUMMED)]
        numbers = sum(tensor.numel() for tensor in self.sent.values())
        models_flops, gradients_flops = 2 * numbers * SUMMED, 2 * self.classes * WIDTH * SUMMED
        costs = {
            CHECK: measured(lambda: unpack_update(reply, expected), repeats=self.repeats),
            MODELS: measured(lambda: weighted_mean(models, [1.0] * SUMMED), flops=models_flops).scaled(1 / SUMMED),
        }
        if isinstance(self.method, CorrectedFedHPro):
            scaffold, state = self.method.scaffold, cast(CorrectedState, self.state).control
            replies = [Update(number, CLIENT_IMAGES, model, {}) for number, model in enumerate(models)]
            moved = measured(
                lambda: scaffold.server_step(state, self.sent, self.sent, replies, Draws(0, 1), Stopwatch())
            )
            costs[CONTROL] = moved.scaled(1 / SUMMED)
        clients = [self.update()] * SUMMED
        if CLASS_GRADIENTS in self.upload:
            mean = measured(
                lambda: class_mean(*class_rows(clients, CLASS_GRADIENTS), self.classes), flops=gradients_flops
            )
            costs[CLASS_MEANS] = mean.scaled(1 / SUMMED)
        if self.calibrates:
            few = clients[: 2 if self.classes >= LARGE else SUMMED]
            mean = measured(
                lambda: [
                    class_mean(*class_rows(few, name), self.classes)
                    for name in (HEAD_WEIGHT_GRADIENTS, HEAD_BIAS_GRADIENTS)
                ],
                repeats=self.repeats,
                flops=2 * self.classes**2 * (WIDTH + 1) * len(few),
            )
            costs[CLASS_MEANS] = costs.get(CLASS_MEANS, Cost(0.0, 0.0)).plus(mean.scaled(1 / len(few)))
        return costs

    def matching(self, start: HyperPrototypes) -> Cost:
        """All steps of the hyper-prototypes' update, every class sent by somebody."""
        options, everyone = self.config.hyper_prototypes, torch.ones(self.classes, dtype=torch.bool)
        target = self.upload[CLASS_GRADIENTS]
        return measured(
            lambda: start.update(
                target, everyone, self.head,
                steps=options.matching_steps, lr=options.matching_lr,
                distance=options.matching_distance, virtual_scale=options.virtual_scale,
            ),
            repeats=self.repeats,
        )  # fmt: skip

    def calibration(self) -> Cost:
        """Matching of its prototypes, timed on some classes and steps, and the head's training, on some epochs."""
        options, head, generator = self.config.calibration, self.head, torch.Generator().manual_seed(0)
        prototypes = torch.randn(self.classes, options.prototypes_per_class, WIDTH, generator=generator)
        small, large = self.classes <= 10, self.classes >= LARGE
        some = 40_000 // self.classes if large else self.classes
        steps, epochs = (options.matching_steps, options.epochs) if small else (10, 1 if large else 5)
        mask = torch.arange(self.classes) < some
        weight, bias = self.upload[HEAD_WEIGHT_GRADIENTS], self.upload[HEAD_BIAS_GRADIENTS]
        matched = measured(
            lambda: match_prototypes(
                prototypes, head, weight, bias, mask,
                steps=steps, lr=options.matching_lr, distance=options.matching_distance,
            ),
            repeats=self.repeats,
        )  # fmt: skip
        trained = measured(
            lambda: retrain_head(
                prototypes, head,
                (torch.randperm(prototypes[..., 0].numel(), generator=generator) for _ in range(epochs)),
                batch_size=options.batch_size, lr=options.lr,
            ),
            repeats=self.repeats,
        )  # fmt: skip
        matched = matched.scaled(options.matching_steps / steps * self.classes / some)
        return matched.plus(trained.scaled(options.epochs / epochs))

    def update(self) -> Update:
        """The client's reply; the model that it trained is here the one that it received."""
        return Update(0, CLIENT_IMAGES, self.sent, self.upload)

    @property
    def calibrates(self) -> bool:
        """Whether clients send the gradients of the head."""
        return HEAD_WEIGHT_GRADIENTS in self.upload
