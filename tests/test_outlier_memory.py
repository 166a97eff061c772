"""Memory of outlier detection: images are opened once if there is room, and dropped if there is not."""

import weakref

import numpy as np
import pytest
from outlier_scene import SHAPE, assert_same, crowded, flag, grid_of
from romosaic import outlier_detection
from romosaic.outlier_detection import _OpenImages, _View


@pytest.fixture(scope="module")
def members():
    """Five dithered, rolled members with stars, cosmic rays and bad pixels."""
    return crowded()[0]


class Watched:
    """A member that counts how often its data are mapped, and how many of the maps of all there are."""

    alive, most = 0, 0

    def __init__(self, member) -> None:
        self._member, self.opened = member, 0

    def __getattr__(self, name):
        return getattr(self._member, name)

    @property
    def data(self) -> np.ndarray:
        self.opened += 1
        Watched.alive += 1
        Watched.most = max(Watched.most, Watched.alive)
        opened = self._member.data.view()
        weakref.finalize(opened, Watched.drop)
        return opened

    @classmethod
    def drop(cls) -> None:
        cls.alive -= 1


@pytest.mark.parametrize(("memory_mb", "once"), [(600, True), (1e-9, False)])
def test_images_are_opened_once_if_the_memory_allows_and_dropped_if_not(members, memory_mb, once):
    watched = [Watched(member) for member in members]
    Watched.most = 0
    whole = flag(members)
    assert sum(flagged.size for flagged, _ in whole) > 250
    assert_same(whole, flag(watched, memory_mb=memory_mb))
    assert all((member.opened == 1) is once for member in watched)
    assert (Watched.most, Watched.alive) == (5 if once else 1, 0)


def test_open_images_are_counted_and_few(members, monkeypatch):
    monkeypatch.setattr(outlier_detection, "MAX_OPEN", 2)
    padded = grid_of().padded(2)
    views = [_View(member, 0.0, padded, np.zeros(4), np.uint32(1)) for member in members[:3]]
    images, row = _OpenImages(1e9), 4 * SHAPE[1]
    data, starts, columns = images.rows(views[0], 3, 8)
    np.testing.assert_array_equal(data, views[0].member.data[3:8])
    bad = np.nonzero(views[0].member.dq[3:8])[1]
    np.testing.assert_array_equal(columns[starts[0] : starts[-1]], bad)
    images.rows(views[1], 0, 2)
    images.rows(views[0], 5, 9)  # rows 5 to 7 again
    assert (images.touched, set(images.open)) == (8 * row, set(views[:2]))
    images.drop(views[0])
    assert (images.touched, set(images.open)) == (2 * row, {views[1]})
    images.drop(views[0])
    images.rows(views[0], 0, 1)
    images.rows(views[2], 0, 4)  # one too many
    assert (images.touched, set(images.open)) == (4 * row, {views[2]})
    images.limit = 4 * row - 1
    images.rows(views[2], 9, 10)
    assert (images.touched, set(images.open)) == (row, {views[2]})
