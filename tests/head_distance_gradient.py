"""The derivative of a distance between head gradients, put together as a calibration's step does."""

from fedhpro_flwr.head_matching import HeadProducts, head_pull, pulled


def head_distance_gradient(g, target, distance):
    """Of `head_distance`, with respect to g."""
    products = HeadProducts.of(g, target), HeadProducts.of(g, g), HeadProducts.of(target, target)
    return pulled(head_pull(*products, distance), g, target)
