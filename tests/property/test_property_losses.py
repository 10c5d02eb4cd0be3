import torch
from hypothesis import given
from hypothesis import strategies as st

from fedhpro_flwr.losses import Anchors, client_margin, hpal, hpcl

SIZES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 20),
        "classes": st.integers(1, 7),
        "width": st.integers(1, 9),
        "seed": st.integers(0, 999),
    }
)
HPCL_FORMS = st.sampled_from(["paper", "reference"])
HPAL_FORMS = st.sampled_from(["paper", "unit", "reference"])
READINGS = st.sampled_from(["l2", "l2-unit", "inner"])


def problem(batch, classes, width, seed):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(0, classes, (batch,), generator=generator)
    return draw(batch, width), labels, draw(classes, 3, width), generator


def both(z, labels, vectors, hpcl_form, hpal_form, margin=0.3):
    anchors = Anchors.of(vectors)
    contrast = hpcl(z, labels, anchors, temperature=0.05, margin=margin, form=hpcl_form)
    return torch.stack([contrast, hpal(z, labels, anchors, form=hpal_form)])


@given(SIZES, HPCL_FORMS, HPAL_FORMS)
def test_order_of_samples_does_not_matter(sizes, contrast, alignment):
    z, labels, vectors, generator = problem(**sizes)
    order = torch.randperm(len(z), generator=generator)
    shuffled = both(z[order], labels[order], vectors, contrast, alignment)
    torch.testing.assert_close(shuffled, both(z, labels, vectors, contrast, alignment), atol=1e-11, rtol=1e-11)


@given(SIZES, HPCL_FORMS, HPAL_FORMS)
def test_names_of_classes_do_not_matter(sizes, contrast, alignment):
    z, labels, vectors, generator = problem(**sizes)
    name = torch.randperm(len(vectors), generator=generator)
    renamed = both(z, name[labels], vectors[torch.argsort(name)], contrast, alignment)
    torch.testing.assert_close(renamed, both(z, labels, vectors, contrast, alignment), atol=1e-11, rtol=1e-11)


@given(SIZES, HPCL_FORMS, st.sampled_from(["unit", "reference"]), st.floats(1e-3, 1e3))
def test_lengths_of_features_do_not_matter_to_directions(sizes, contrast, alignment, size):
    z, labels, vectors, _ = problem(**sizes)
    scaled = both(size * z, labels, vectors, contrast, alignment)
    torch.testing.assert_close(scaled, both(z, labels, vectors, contrast, alignment), atol=1e-9, rtol=1e-9)


@given(SIZES, HPCL_FORMS, st.floats(0, 1e3), st.floats(-6, 6), st.floats(0.01, 1.0))
def test_contrast_never_overflows(sizes, form, margin, exponent, temperature):
    z, labels, vectors, _ = problem(**sizes)
    z = (z * 10**exponent).float().requires_grad_()
    loss = hpcl(z, labels, Anchors.of(vectors.float()), temperature=temperature, margin=margin, form=form)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite() and loss >= 0 and gradient.isfinite().all()


@given(SIZES, HPCL_FORMS, st.floats(0, 50), st.floats(0, 50))
def test_a_larger_margin_is_a_larger_loss(sizes, form, one, other):
    z, labels, vectors, _ = problem(**sizes)
    small, large = (
        hpcl(z, labels, Anchors.of(vectors), temperature=0.05, margin=m, form=form) for m in sorted((one, other))
    )
    assert small <= large + 1e-12


@given(SIZES, HPAL_FORMS)
def test_alignment_vanishes_on_the_anchors_alone(sizes, form):
    z, labels, vectors, _ = problem(**sizes)
    anchors = Anchors.of(vectors)
    assert hpal(anchors.means[labels], labels, anchors, form=form) < 1e-12
    assert hpal(z, labels, anchors, form=form) >= 0


@given(SIZES, HPAL_FORMS)
def test_hpal_gradient_is_clipped(sizes, form):
    """Huber's slope never exceeds 1, so neither does a sample's pull on any coordinate of what it compares."""
    z, labels, vectors, _ = problem(**sizes)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(hpal(z, labels, Anchors.of(vectors), form=form), z)
    assert gradient.isfinite().all()
    if form == "paper":
        assert (gradient.abs() <= 1 / len(z) + 1e-12).all()


@given(SIZES, READINGS)
def test_margin_does_not_depend_on_the_order_or_the_names(sizes, reading):
    z, labels, vectors, generator = problem(**sizes)
    order, name = (
        torch.randperm(len(z), generator=generator),
        torch.randperm(len(vectors), generator=generator),
    )
    margin = client_margin(z, labels, len(vectors), reading)
    other = client_margin(z[order], name[labels[order]], len(vectors), reading)
    torch.testing.assert_close(other, margin, atol=1e-11, rtol=1e-11)


@given(SIZES, READINGS, st.floats(1e-2, 1e2))
def test_margin_scales_with_the_features(sizes, reading, size):
    z, labels, vectors, _ = problem(**sizes)
    power = {"l2": 1, "l2-unit": 0, "inner": 2}[reading]
    margin = client_margin(z, labels, len(vectors), reading)
    scaled = client_margin(size * z, labels, len(vectors), reading)
    torch.testing.assert_close(scaled, size**power * margin, atol=1e-9 * max(1.0, size**power), rtol=1e-9)


@given(SIZES)
def test_margin_of_distances_bounds(sizes):
    z, labels, vectors, _ = problem(**sizes)
    present, classes = len(labels.unique()), len(vectors)
    margin, unit = (client_margin(z, labels, classes, reading) for reading in ("l2", "l2-unit"))
    assert margin >= 0
    assert 0 <= unit <= 2 * present * (present - 1) / max(1, (classes - 1) ** 2) + 1e-12


@given(SIZES, st.sampled_from(["l2", "l2-unit", "inner", "none"]))
def test_one_class_has_no_margin(sizes, reading):
    z, labels, vectors, _ = problem(**sizes)
    assert client_margin(z, torch.full_like(labels, int(labels[0])), len(vectors), reading) == 0
