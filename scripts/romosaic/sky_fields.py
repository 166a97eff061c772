"""Fields: what lies near each other on the sky, for pictures with a panel each."""

import numpy as np

#: Things farther apart are different fields, degrees: a pointing is 0.8 degrees wide.
LINK = 1.0


def fields(vectors: np.ndarray, link: float = LINK) -> np.ndarray:
    """
    Number of the field of each position, fields in the order of their size.

    Positions nearer to each other than `link` share a field, directly or through others between; beyond twice
    that they do not, without others between.

    Parameters
    ----------
    vectors : (3, n) float64
        Unit vectors.
    link : float, optional
        Degrees.

    Returns
    -------
    (n,) int
        0 for the field with the most positions.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    # Cubes in place of positions: there are few of them, however many positions a survey has.
    cubes = np.floor(vectors.T / np.radians(link)).astype(int)
    cubes, which = np.unique(cubes, axis=0, return_inverse=True)
    near = cKDTree(cubes).query_pairs(1.5, p=np.inf, output_type="ndarray")
    graph = coo_matrix((np.ones(len(near)), near.T), shape=(len(cubes), len(cubes)))
    found = connected_components(graph, directed=False)[1][which.ravel()]
    order = np.argsort(-np.bincount(found), kind="stable")
    return np.argsort(order, kind="stable")[found]
