"""Models of text: paddings change nothing, short texts and single samples work, and what they compute by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fedhpro_flwr.data.data_set import PADDING
from fedhpro_flwr.models import build
from fedhpro_flwr.models.transformer_layer import mean_over_tokens

NAMES = ("fasttext", "text-cnn", "text-transformer")
EMBEDDINGS = {"fasttext": "encoder.0.weight", "text-cnn": "encoder.0.embedding.weight"}
EMBEDDINGS["text-transformer"] = EMBEDDINGS["text-cnn"]


def net_of(name: str, *, length: int = 12, width: int = 0, seed: int = 0):
    return build(name, input_shape=(length,), num_classes=3, width=width, vocabulary=50, seed=seed)


def texts(*lengths: int, padded_to: int) -> torch.Tensor:
    """Random tokens of these lengths, PADDING behind them: int32 [B, padded_to]."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((len(lengths), padded_to), PADDING, dtype=torch.int32)
    for row, length in zip(tokens, lengths, strict=True):
        row[:length] = torch.randint(1, 50, (length,), generator=generator)
    return tokens


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("width", "features"), [(0, 64), (20, 20)])
def test_features_logits_and_a_training_step(name, width, features):
    net = net_of(name, width=width)
    tokens = texts(12, 7, 1, 3, padded_to=12)
    z = net.encoder(tokens)
    assert (net.width, net.num_classes, z.shape, z.dtype) == (features, 3, (4, features), torch.float32)
    assert bool((z >= 0).all()) and bool((z > 0).any(dim=1).all())
    assert torch.equal(net.eval().encoder(tokens), z)  # nothing is drawn, and eval mode takes no other path
    F.cross_entropy(net.train()(tokens), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and bool(torch.isfinite(p.grad).all()) for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_more_padding_changes_neither_features_nor_gradients(name):
    net = net_of(name).double()
    tokens = texts(6, 2, 1, padded_to=12)
    results = []
    for columns in (6, 9, 12):
        net.zero_grad()
        z = net.encoder(tokens[:, :columns])
        z.square().sum().backward()
        results.append((z.detach(), net.get_parameter(EMBEDDINGS[name]).grad.clone()))
    for z, gradient in results[1:]:
        torch.testing.assert_close(z, results[0][0], rtol=0, atol=1e-13)
        torch.testing.assert_close(gradient, results[0][1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_the_embedding_of_padding_is_never_trained_nor_looked_at(name):
    net = net_of(name)
    tokens = texts(5, 1, padded_to=12)
    table = net.get_parameter(EMBEDDINGS[name])
    z = net.encoder(tokens)
    z.square().sum().backward()
    assert not table.grad[PADDING].any() and bool(table.grad[tokens[0, 0]].any())
    with torch.no_grad():
        table[PADDING] = 100.0
        torch.testing.assert_close(net.encoder(tokens), z)


@pytest.mark.parametrize("name", NAMES)
def test_each_text_is_encoded_by_itself(name):
    net = net_of(name).double()
    tokens = texts(12, 4, 1, padded_to=12)
    alone = torch.cat([net.encoder(row[None]) for row in tokens])
    torch.testing.assert_close(net.encoder(tokens), alone, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 2])
def test_a_batch_of_one_short_text_can_be_trained_on(name, length):
    net = net_of(name, length=length).train()
    net(texts(length, padded_to=length)).sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_text_of_paddings_alone_stays_finite(name):
    net = net_of(name)
    z = net.encoder(texts(0, 4, padded_to=12))
    z.sum().backward()
    assert bool(torch.isfinite(z).all()) and all(bool(torch.isfinite(p.grad).all()) for p in net.encoder.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_weights_follow_the_seed_and_leave_the_global_generator_alone(name):
    before = torch.random.get_rng_state()
    first, again, other = (net_of(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first[EMBEDDINGS[name]], other[EMBEDDINGS[name]])
    assert len({tensor.data_ptr() for tensor in first.values()}) == len(first)
    assert all(key.startswith(("encoder.", "head.")) for key in first)


@pytest.mark.parametrize("name", NAMES)
def test_channels_last_changes_nothing(name):
    net = net_of(name)
    tokens = texts(12, 4, padded_to=12)
    plain = net(tokens)
    assert torch.equal(net.to(memory_format=torch.channels_last)(tokens), plain)


@pytest.mark.parametrize("name", NAMES)
def test_images_and_vectors_are_refused(name):
    with pytest.raises(ValueError, match=rf"model '{name}' needs text, the data has shape \[12\]"):
        build(name, input_shape=(12,), num_classes=3, seed=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_word_that_tells_the_classes_apart_is_learnt(name):
    net = net_of(name).train()
    tokens = texts(*[8] * 60, padded_to=12) % 40 + 1  # ids 1..40, paddings too for now
    labels = torch.arange(60) % 3
    tokens[:, 8:] = PADDING
    tokens[torch.arange(60), torch.arange(60) % 8] = (41 + labels).int()  # at any place in the text
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tokens), labels)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1  # log 3 = 1.10 for a guess


def test_fasttext_by_hand():
    net = build("fasttext", input_shape=(4,), num_classes=2, width=1, vocabulary=4, seed=0)
    embeddings = torch.zeros(4, 64)
    embeddings[1, 0], embeddings[2, 0], embeddings[3, 1] = 2.0, 6.0, -3.0
    weight = torch.zeros(1, 64)
    weight[0, :2] = torch.tensor([1.0, 1.0])
    state = {"encoder.0.weight": embeddings, "encoder.1.weight": weight, "encoder.1.bias": torch.tensor([0.5])}
    net.load_state_dict(state, strict=False)
    tokens = torch.tensor([[1, 2, 0, 0], [1, 2, 3, 1], [3, 0, 0, 0]], dtype=torch.int32)
    # means (4, 0), (2.5, -0.75), (0, -3); z = relu(4.5), relu(2.25), relu(-2.5)
    assert net.encoder(tokens).tolist() == [[4.5], [2.25], [0.0]]


def test_text_cnn_by_brute_force():
    net = net_of("text-cnn").double()
    words = net.encoder[0]
    tokens = texts(7, 2, 1, padded_to=12)
    with torch.no_grad():
        found = words(tokens)
        expected = torch.zeros_like(found)
        for row, length in enumerate((7, 2, 1)):
            text = words.embedding(tokens[row, :length])  # [length, E]
            column = 0
            for convolution in words.convolutions:
                for kernel, bias in zip(convolution.weight, convolution.bias, strict=True):  # [E, width]
                    responses = [
                        bias + sum(kernel[:, k] @ text[at + k] for k in range(kernel.shape[1]) if at + k < length)
                        for at in range(length)
                    ]
                    expected[row, column] = max(0.0, *(float(response) for response in responses))
                    column += 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_transformer_heeds_the_order_of_words_and_fasttext_does_not():
    tokens = texts(5, padded_to=12)
    turned = torch.cat((tokens[:, :5].flip(1), tokens[:, 5:]), dim=1)
    for name, differs in (("fasttext", False), ("text-transformer", True)):
        net = net_of(name).double()
        assert (float((net.encoder(tokens) - net.encoder(turned)).abs().max().detach()) > 1e-6) is differs


def test_mean_over_tokens_by_hand():
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [9.0, 9.0]], [[5.0, 5.0]] * 3])
    real = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_over_tokens(vectors, real).tolist() == [[2.0, 4.0], [0.0, 0.0]]
