"""
Coadds and segmentation maps read without asdf's plugins.

Whole arrays are held against their checksums; windows, of which a tool reads a few, are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .asdf_blocks import AsdfBlocks
from .errors import REMAKE, ProductError
from .grid import Grid
from .mosaic_wcs import grid_of
from .product import steps_of


@dataclass(frozen=True)
class CoaddBlocks:
    """
    A coadd as `resample` left it; each access to an image unpacks it.

    Attributes
    ----------
    blocks : AsdfBlocks
        Structure of the file.
    tree : dict
        Its tree.
    """

    blocks: AsdfBlocks
    tree: dict

    @property
    def meta(self) -> dict:
        """Metadata of the mosaic (plain types, tables as nodes)."""
        return self.tree["roman"]["meta"]

    @property
    def own(self) -> dict:
        """What the workflow says of the product: members, noise, sky groups, provenance."""
        return self.tree["romosaic"]

    @property
    def optical_element(self) -> str:
        """Filter."""
        return str(self.meta["instrument"]["optical_element"])

    @cached_property
    def grid(self) -> Grid:
        """Its pixels on the sky."""
        return grid_of(self.meta["wcsinfo"])

    @property
    def product(self) -> str:
        """Name of the product."""
        return self.blocks.path.name.removesuffix("_coadd.asdf")

    @property
    def weight_type(self) -> str:
        """How its exposures were weighted: see `weights`."""
        return str(self.own["provenance"]["parameters"]["weight_type"])

    @property
    def weight_unit(self) -> str:
        """Unit of its weights; empty where they are numbers."""
        return {"exptime": "s", "none": ""}.get(self.weight_type, "(MJy/sr)^-2")

    @property
    def steps(self) -> dict[str, dict]:
        """Parameters of the steps that made it: see `product.steps_of`."""
        return steps_of("resample", self.own["provenance"])

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """Level-2 exposures that it was made of: name, fingerprint."""
        given = self.own["provenance"]["inputs"]
        return [(entry["name"], entry["fingerprint"]) for entry in given]

    def image(self, name: str) -> np.ndarray:
        """
        Unpack an array of the mosaic: data, err, weight, var_*: (ny, nx) float32; context: (n, ny, nx) uint32.

        Raises
        ------
        ProductError
            The block is damaged.
        """
        return self.blocks.array(self._proven(name))

    def planes(self, name: str) -> Iterator[np.ndarray]:
        """
        Planes of an array of the mosaic, one in memory at a time: of an image, itself.

        Raises
        ------
        ProductError
            The block is damaged.
        """
        node = self._proven(name)
        yield from (
            self.blocks.planes(node) if len(node["shape"]) == 3 else [self.blocks.array(node)]
        )

    def _proven(self, name: str) -> dict:
        """Node of an array of the mosaic, its bytes those that were written."""
        node = self.tree["roman"][name]
        _verify(self.blocks, node)
        return node

    def window(self, name: str, window: tuple[int, int, int, int]) -> np.ndarray:
        """
        Read the part (y0, y1, x0, x1) of an array of the mosaic, half-open and within it.

        Raises
        ------
        ProductError
            The block is damaged.
        """
        return self.blocks.window(self.tree["roman"][name], window)

    def depth(self, step: int = 1) -> np.ndarray:
        """Number of exposures, uint16, of every step-th pixel along both axes."""
        planes = self.planes("context")
        counts = (np.bitwise_count(bits[::step, ::step]).astype(np.uint16) for bits in planes)
        return sum(counts, start=np.uint16(0))


def open_coadd(path: str | Path) -> CoaddBlocks:
    """
    Open a coadd.

    Raises
    ------
    ProductError
        The file is missing, cut short, or not one of `resample`'s.
    """
    blocks = AsdfBlocks.read(path, REMAKE)
    tree = blocks.tree
    if not isinstance(tree, dict) or not {"roman", "romosaic"} <= set(tree):
        raise ProductError(path, "is not a coadd of this workflow", REMAKE)
    return CoaddBlocks(blocks, tree)


def read_segmentation(path: str | Path) -> np.ndarray:
    """
    Read a segmentation map, (ny, nx) uint32, after checking its checksum.

    Raises
    ------
    ProductError
        The file is missing, damaged, or not one of `source_catalog`'s.
    """
    blocks = AsdfBlocks.read(path, REMAKE)
    try:
        node = blocks.tree["roman"]["data"]
    except (KeyError, TypeError) as error:
        raise ProductError(path, "is no segmentation map", REMAKE) from error
    _verify(blocks, node)
    return blocks.array(node)


def _verify(blocks: AsdfBlocks, node: dict | list) -> None:
    """Hold the block of an array against its checksum, if it has one of its own."""
    if isinstance(node, dict) and "source" in node:
        blocks.verify([node["source"]])
