"""
Files of the step `flux`: calibrated exposures, valid Level-2 images whose arrays later steps map.

Who maps them depends on no code that made them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .asdf_blocks import AsdfBlocks
from .asdf_writer import Packed, pack_array, write_copy
from .atomic import atomic
from .checked_plane import SMALL, CheckedPlane, n_pieces
from .dq_list import DqList
from .errors import REMAKE, ProductError
from .memory import give_back
from .pixmap import PixelMap

if TYPE_CHECKING:
    from .flux import Calibrated


def write_flux(
    path: str | Path,
    source: AsdfBlocks,
    calibrated: "Calibrated",
    pixmap: PixelMap,
    exposure: str,
    provenance: dict,
) -> None:
    """
    Write a calibrated exposure: a valid ImageModel whose images can be mapped, plus what later steps need.

    Parameters
    ----------
    path : str or path
        `_flux.asdf` file.
    source : AsdfBlocks
        The Level-2 file; what `flux` does not change is taken over as it is stored.
    calibrated : Calibrated
        Result of `flux.calibrate`. The values of its images are lost, and those of `pixmap`.
    pixmap : PixelMap
        Detector pixels <-> sky.
    exposure : str
        Name of the exposure.
    provenance : dict
        See `product.provenance`.
    """
    dated = source.tree["roman"]["meta"]["file_date"]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    meta = {"cal_step.flux": "COMPLETE", "filename": Path(path).name, "file_date": now}
    # Later steps read the list: the plane, for other programs, shrinks to a hundredth.
    flagged, dq = calibrated.flagged, pack_array(calibrated.dq)
    if isinstance(dq, Packed):
        give_back(calibrated.dq)
    planes = {"data": calibrated.data, "err": calibrated.err, "dq": dq} | calibrated.variances
    changes = {("roman", "meta", *key.split(".")): value for key, value in meta.items()}
    changes |= {("roman", name): plane for name, plane in planes.items()}
    own = {
        "exposure": exposure,
        # Some write a time as a text, some as a mapping with its form.
        "file_date": str(dated["value"] if isinstance(dated, dict) else dated),
        "noise": calibrated.noise,
        "unusable": calibrated.unusable,
        "dq": {"index": flagged.index, "values": flagged.values},
        "sky_blocks": calibrated.sky_blocks,
        "pixmap": pixmap.to_tree(),
        "variances": calibrated.precise_variances,
        "provenance": provenance,
    }
    with atomic(path) as temporary:
        write_copy(temporary, source, changes, {"romosaic": own}, consume=True)


@dataclass(frozen=True)
class FluxExposure:
    """
    One exposure as `flux` left it; images are read-only memory maps, checked where they are read.

    Each access to an image makes a map, and who holds it holds memory and an open file: of a product of many
    members not all fit. Small arrays are read.

    Attributes
    ----------
    path : Path
        The `_flux.asdf` file.
    """

    path: Path
    blocks: AsdfBlocks
    tree: dict

    @property
    def meta(self) -> dict:
        """Header of the Level-2 image (plain types)."""
        return self.tree["roman"]["meta"]

    @property
    def _own(self) -> dict:
        return self.tree["romosaic"]

    @property
    def name(self) -> str:
        """Name of the exposure."""
        return self._own["exposure"]

    @property
    def optical_element(self) -> str:
        """Filter."""
        return str(self.meta["instrument"]["optical_element"])

    @property
    def file_date(self) -> str:
        """When the Level-2 file was made."""
        return self._own["file_date"]

    @property
    def provenance(self) -> dict:
        """How it was made: see `product.provenance`."""
        return self._own["provenance"]

    @property
    def fingerprint(self) -> str:
        """Identity of the Level-2 file."""
        return self.provenance["inputs"][0]["fingerprint"]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return tuple(self.tree["roman"]["data"]["shape"])

    @property
    def exposure_time(self) -> float:
        """Seconds from the first reset to the last read."""
        return float(self.meta["exposure"]["exposure_time"])

    @property
    def effective_exposure_time(self) -> float:
        """Seconds between the midpoints of the first and the last resultant; `exposure_time` where unknown."""
        seconds = self.meta["exposure"].get("effective_exposure_time") or 0.0
        return float(seconds) if seconds > 0 else self.exposure_time

    @cached_property
    def _checksums(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Checksums of the pieces of each large block, and which of them are known to be right."""
        # not a map, which would keep the file open
        given, found, start = np.array(self.blocks.array(self.tree["checksums"])), {}, 0
        for number, block in enumerate(self.blocks.blocks):
            stop = start + n_pieces(block.used)
            if stop > start:
                found[number] = given[start:stop], np.zeros(stop - start, bool)
            start = stop
        if given.shape != (start,):
            what = "has not one checksum for each piece of its blocks"
            raise ProductError(self.path, what, REMAKE)
        return found

    def _stored(self, number: int) -> CheckedPlane:
        """Bytes of a large block as they are in the file."""
        content = np.frombuffer(self.blocks.stored(self.blocks.blocks[number]), np.uint8)
        return CheckedPlane(self.path, content, *self._checksums[number])

    def _plane(self, node: dict) -> np.ndarray | CheckedPlane:
        number = node.get("source")
        if number not in self._checksums:  # a small block, checked when the file was opened
            return self.blocks.array(node)
        if node.get("offset") or self.blocks.blocks[number].compression:
            raise ProductError(self.path, "has an image in another form than flux writes", REMAKE)
        return CheckedPlane(self.path, self.blocks.array(node), *self._checksums[number])

    def _whole(self, node: dict | list) -> np.ndarray:
        """Array of which values are looked up here and there: all of its bytes are checked before."""
        if isinstance(node, dict) and node.get("source") in self._checksums:
            self._stored(node["source"])[:]
        return self.blocks.array(node)

    def verify(self) -> None:
        """
        Check all bytes of the file.

        Raises
        ------
        ProductError
            Some are not those that were written.
        """
        self.blocks.verify()
        for number in self._checksums:
            self._stored(number)[:]

    @property
    def data(self) -> np.ndarray | CheckedPlane:
        """(ny, nx) float32, MJy/sr."""
        return self._plane(self.tree["roman"]["data"])

    @property
    def dq(self) -> DqList | np.ndarray | CheckedPlane:
        """(ny, nx) uint32; a plane in files of earlier versions."""
        nodes = self._own.get("dq")
        if nodes is None:
            return self._plane(self.tree["roman"]["dq"])
        # not maps, which would keep the file open
        return DqList(self.shape, *(np.array(self._whole(nodes[k])) for k in ("index", "values")))

    def _variance(self, name: str) -> np.ndarray | CheckedPlane | None:
        node = self._own.get("variances", {}).get(name) or self.tree["roman"].get(name)
        return None if node is None else self._plane(node)

    @property
    def var_rnoise(self) -> np.ndarray | CheckedPlane:
        """(ny, nx) float16 or float32, MJy^2/sr^2."""
        return self._variance("var_rnoise")

    @property
    def var_poisson(self) -> np.ndarray | CheckedPlane:
        """(ny, nx) float16 or float32, MJy^2/sr^2."""
        return self._variance("var_poisson")

    @property
    def var_flat(self) -> np.ndarray | CheckedPlane | None:
        """(ny, nx) float16 or float32, MJy^2/sr^2; None where the exposure has none."""
        return self._variance("var_flat")

    @cached_property
    def sky_blocks(self) -> dict:
        """Sky statistics: see `sky.block_statistics` and `sky.block_variances`."""
        blocks = dict(self._own["sky_blocks"])
        dtypes = dict(x="f8", y="f8", value="f4", error="f4", n_good="i4", variance="f4")
        for key, dtype in dtypes.items():
            blocks[key] = np.array(self.blocks.array(blocks[key]), dtype=dtype)
        return blocks

    @property
    def sky_variance(self) -> float:
        """Median variance of the sky pixels, MJy^2/sr^2."""
        return float(self._own["noise"]["sky_variance"])

    @property
    def poisson_slope(self) -> float:
        """Increase of the variance per unit of signal above the pedestal, MJy/sr."""
        return float(self._own["noise"]["poisson_slope"])

    @property
    def pedestal(self) -> float:
        """Median level of the sky pixels, MJy/sr."""
        return float(self._own["noise"]["pedestal"])

    @cached_property
    def pixmap(self) -> PixelMap:
        """Detector pixels <-> sky."""
        return PixelMap.from_tree(self._own["pixmap"], self._whole)


def open_flux(path: str | Path) -> FluxExposure:
    """
    Open a file that `flux` made, without asdf's plugins.

    Header and small arrays are held against their checksums; images are when windows of them are read.

    Raises
    ------
    ProductError
        The file is missing, cut short, damaged, or not one of `flux`'s.
    """
    path = Path(path)
    blocks = AsdfBlocks.read(path, REMAKE)
    blocks.verify(largest=SMALL)
    tree = blocks.tree
    if not isinstance(tree, dict) or not {"roman", "romosaic", "checksums"} <= set(tree):
        raise ProductError(path, "is not a file of the flux step", REMAKE)
    return FluxExposure(path, blocks, tree)
