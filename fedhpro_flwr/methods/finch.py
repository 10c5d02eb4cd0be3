"""FINCH: clusters without a number of clusters or a threshold, from every point's nearest neighbour alone.

Source: Sarfraz, Sharma, Stiefelhagen, Efficient Parameter-Free Clustering Using First Neighbor Relations, CVPR 2019.
With k_i the first neighbour of point i, its eq. (1) links i and j where j = k_i, or i = k_j, or k_i = k_j; the
connected components are the clusters. The means of the clusters are clustered in the same way, and so on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Assignment = npt.NDArray[np.int64]  # [N] the cluster of each point, numbered in the order of their first points


def finch(points: Points) -> list[Assignment]:
    """The hierarchy of partitions of points [N, D] under the cosine distance, from the finest to the coarsest.

    Each level merges clusters of the one before. One cluster of all points is not a level, unless it is the only one.

    Raises:
        ValueError: there is no point, or a coordinate is not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(f"FINCH needs one or more points [N, D] of finite coordinates, got {list(points.shape)}")
    levels = [linked(points)]
    while levels[-1].max() > 0:
        merged = linked(cluster_means(points, levels[-1]))
        if merged.max() == 0:
            break
        levels.append(merged[levels[-1]])
    return levels


def linked(points: Points) -> Assignment:
    """One level: the connected components of the points' first-neighbour relations.

    Of equally near neighbours the one with the lowest index is the first.
    """
    if len(points) == 1:
        return np.zeros(1, np.int64)
    from scipy.sparse import coo_array  # slow to import, and only the server of FPL clusters
    from scipy.sparse.csgraph import connected_components

    count = len(points)
    # Points with the same first neighbour are connected through it, so the links i - k_i are enough.
    links = coo_array((np.ones(count), (np.arange(count), first_neighbours(points))), shape=(count, count))
    _, component = connected_components(links, directed=False)
    _, first, clusters = np.unique(component, return_index=True, return_inverse=True)
    return first.argsort().argsort()[clusters].astype(np.int64)  # numbered in the order of their first points


def first_neighbours(points: Points) -> npt.NDArray[np.int64]:
    """k [N]: which other point is nearest by cosine distance; a point at the origin is at distance 1 from all."""
    norms = np.linalg.norm(points, axis=1, keepdims=True)
    directions = points / np.where(norms > 0, norms, 1.0)
    similarity = directions @ directions.T  # [N, N]
    np.fill_diagonal(similarity, -np.inf)
    nearest: npt.NDArray[np.int64] = similarity.argmax(axis=1)  # the first of several equal ones
    return nearest


def cluster_means(points: Points, clusters: Assignment) -> Points:
    """The mean of the points of each cluster [J, D], whatever levels lie between the points and the clusters."""
    sums = np.zeros((int(clusters.max()) + 1, points.shape[1]))
    np.add.at(sums, clusters, points)
    return sums / np.bincount(clusters)[:, None]
