"""THE visit of a client, top to bottom: it receives the global model, measures, trains, and replies with one message.

Comments name what is particular to FedHPro at the lines that call it; its code is in fedhpro_flwr/methods/fedhpro.py.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from fedhpro_flwr.client.local_steps import epoch, lone_sample_explained
from fedhpro_flwr.client.personal import PersonalState, remembered, split_memory
from fedhpro_flwr.client.privacy import protected
from fedhpro_flwr.client.replayed_step import as_cuda_graph
from fedhpro_flwr.client_data import ClientData
from fedhpro_flwr.exchange import exchanged, load, personal
from fedhpro_flwr.methods import Arrival, Batch, Correction, LocalLoss, Method, build_method
from fedhpro_flwr.methods.hook_checks import refuse_client_hooks, refuse_departure, refuse_loss
from fedhpro_flwr.metrics import Scores, evaluate_each
from fedhpro_flwr.models import Model
from fedhpro_flwr.precision import Precision, forward_in
from fedhpro_flwr.records import BEGAN_ANEW, TRAIN_LOSS, Broadcast, OwnTest, Update
from fedhpro_flwr.seeding import Draws
from fedhpro_flwr.settings.sections import LocalOptions
from fedhpro_flwr.sgd import LocalSGD
from fedhpro_flwr.timing import PHASE, Stopwatch


def visit(
    model: Model,
    data: ClientData,
    received: Broadcast,
    method: Method | None = None,
    *,
    state: PersonalState | None = None,
) -> Update:
    """One visit of one client.

    Args:
        model: any instance of the client's architecture on the device of the data; its weights are overwritten with
            the received ones and are the trained ones afterwards.
        data: the client's own samples.
        received: what the server sent.
        method: the client half of the federated method; built from the received settings if left out.
        state: where the client keeps the part of its model that does not travel and what the method remembers; needed
            if there is either.

    Returns:
        The trained model (the part that travels), the method's upload, and the client's metrics and test results.

    Raises:
        ValueError: the received tensors do not fit the model, the client has no training data, or a batch of one
            sample that the model cannot train on.
    """
    config, task = received.config, received.task
    method = method or build_method(config)
    draws, watch = received.draws, Stopwatch()
    kept, memory = split_memory(state.before() if state else {})
    load(model, received.model, method.share, kept)
    model.eval()  # every hook gets it in this mode: only training moves a BatchNorm's statistics
    arrival = Arrival(model, data, received, draws, memory)

    with watch("evaluation"):
        test = measure(model, data, received, method) if task.evaluate and data.test is not None else None
    with watch("class-gradients"):
        # FedHPro: class gradients g_k [P, D] at the received model [P.1]
        upload = method.upload(arrival)
        # FedHPro: HPCL with the margin d_k of this client, and HPAL [P.3] [P.4]
        extra_loss = method.local_loss(arrival)
        offsets = method.logit_offsets(arrival)  # FedHPro, if asked to: from the client's class counts
        correction = method.correction(arrival)  # SCAFFOLD, FedProx; FedHPro if asked to
    refuse_client_hooks(method, upload, extra_loss, offsets, correction, model.num_classes)
    with watch("local-training"), lone_sample_explained(len(arrival.train), config.local):
        train_loss = train(model, data, config.local, extra_loss, draws, correction, offsets)
    with watch("departure"):
        # class means, for methods with class prototypes; FedHPro sends nothing that is measured after training
        model.eval()
        departing = replace(arrival)  # a copy without the cached features: they are those of the received model
        departure = method.depart(departing, config.local.steps(len(arrival.train)))
        refuse_departure(method, departure, upload)
        upload |= departure.upload

    trained = model.state_dict()
    stays = {**personal(trained, method.share), **remembered(departure.memory)}
    began_anew = state.keep(stays) if state and stays else False
    metrics = {TRAIN_LOSS: train_loss, **({BEGAN_ANEW: 1.0} if began_anew else {})}
    metrics |= {f"{PHASE}{phase}": seconds for phase, seconds in watch.seconds.items()}
    sent = exchanged(trained, method.share)
    update = Update(task.partition_id, len(arrival.train), sent, upload, metrics, test)
    return protected(update, received, model.num_classes, state)  # unchanged, unless `privacy.*` holds something back


def own_test(model: Model, data: ClientData, received: Broadcast, *, state: PersonalState | None = None) -> OwnTest:
    """Test the received model, completed by the part that the client kept, on the client's own test data.

    Raises:
        ValueError: the received tensors do not fit the model, or the settings withhold such results.
    """
    if received.config.privacy.withhold:
        raise ValueError("privacy.withhold: results on the client's own test data stay with the client")
    method = build_method(received.config)
    kept, _ = split_memory(state.before() if state else {})
    load(model, received.model, method.share, kept)
    if state:
        state.let_go()  # after the last round, files may be left that nobody needs, as of a repeated round
    return measure(model, data, received, method)


def measure(model: Model, data: ClientData, received: Broadcast, method: Method) -> OwnTest:
    """Test the loaded model with its own head or the method's and, if asked to, by the nearest received prototypes."""
    head, prototypes = method.tested_scores(received.tensors)
    scores: list[Scores] = [head or model.head, *([prototypes] if prototypes else [])]
    results = evaluate_each(model, data, scores, batch_size=received.config.evaluation.batch_size)
    return OwnTest(received.task.partition_id, *results)


def train(
    model: Model,
    data: ClientData,
    local: LocalOptions,
    extra_loss: LocalLoss | None,
    draws: Draws,
    correction: Correction | None = None,
    offsets: Tensor | None = None,
) -> float:
    """Local SGD on CE + the method's loss [P.5]; returns the mean loss of the last epoch."""
    model.train()
    optimizer = LocalSGD(model.parameters(), lr=local.lr, momentum=local.momentum, weight_decay=local.weight_decay)
    order, augmentation = draws.torch("batches"), draws.torch("augmentation")

    def sgd_step(x: Tensor, labels: Tensor) -> Tensor:
        loss = batch_loss(model, x, labels, extra_loss, local.precision, offsets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if correction is not None:
            correction()
        optimizer.step()
        return loss.detach()

    step = as_cuda_graph(sgd_step, local, data.device)  # `sgd_step` itself, unless local.cuda-graph is set on a GPU
    for _ in range(local.epochs):
        total = torch.zeros((), device=data.device)
        for x, labels in epoch(data, local, order, augmentation):
            total += step(x, labels) * len(labels)  # stays on the device: no step waits for the host
    optimizer.zero_grad()  # between visits a process holds the weights but no gradients
    return float(total) / len(data.training)


def batch_loss(
    model: Model,
    x: Tensor,
    labels: Tensor,
    extra_loss: LocalLoss | None,
    precision: Precision = "float32",
    offsets: Tensor | None = None,
) -> Tensor:
    """CE(W z + b + offsets, y) + the method's loss on z [P.5]: scalar; losses are float32 whatever the precision."""
    with forward_in(precision, x.device):
        z = model.encoder(x)  # [B, D]
        logits = model.head(z)  # [B, C]
    if precision != "float32":
        z, logits = z.float(), logits.float()
    loss = F.cross_entropy(logits if offsets is None else logits + offsets, labels)
    if extra_loss is None:
        return loss
    extra = extra_loss(Batch(x, labels, z))
    refuse_loss(extra)
    return loss + extra  # [P.5]
