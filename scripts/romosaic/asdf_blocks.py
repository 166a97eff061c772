"""
ASDF files read without asdf's plugins: tree, block headers, arrays.

Opening a file with `asdf.open` loads every plugin that is installed, 2-3 CPU seconds before the first pixel.
The steps from `flux` to `resample` need a plain tree and a few arrays: this module gives them those from the
file's own structure (ASDF standard 1.6, "Low-level file layout"); `asdf_writer` is its counterpart.
"""

import hashlib
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .asdf_compression import lz4_pieces, unpack, unpack_part
from .asdf_tree import MAX_TREE_BYTES, load_tree, sealed, sources
from .errors import REMAKE, ProductError

_YAML_END = re.compile(rb"\r?\n\.\.\.\r?\n")
BLOCK_MAGIC = b"\xd3BLK"
_INDEX_MAGIC = b"#ASDF BLOCK INDEX"
BLOCK_HEADER = struct.Struct(">I4sQQQ16s")
#: In a header: no checksum was made.
NO_CHECKSUM = bytes(16)
#: Zeros that may stand between the tree and the first block.
_MAX_PADDING = MAX_TREE_BYTES
DATATYPE = re.compile(r"bool8|u?int(?:8|16|32|64)|float(?:16|32|64)|complex(?:64|128)")
_FETCH = "fetch the file again"


@dataclass(frozen=True)
class Block:
    """One binary block: where its bytes are, how they are packed, and their MD5 checksum."""

    start: int
    used: int
    size: int
    compression: str
    checksum: bytes


@dataclass(frozen=True)
class AsdfBlocks:
    """
    Structure of an ASDF file.

    Attributes
    ----------
    path : Path
        The file.
    text : bytes
        The YAML tree, as written.
    blocks : list of Block
        Binary blocks in the order of the file.
    todo : str
        What to do about the file if it is damaged.
    """

    path: Path
    text: bytes
    blocks: list[Block]
    todo: str = _FETCH

    @classmethod
    def read(cls, path: str | Path, todo: str = "") -> "AsdfBlocks":
        """
        Read the tree's text and the block headers; no pixel is touched.

        Parameters
        ----------
        path : str or path
            The file.
        todo : str, optional
            What to do about it if it is damaged, such as `REMAKE`; by default it is to be fetched again.

        Raises
        ------
        ProductError
            The file is missing, is not ASDF, or is cut short; its header is not as this workflow wrote it.
        """
        path = Path(path)
        try:
            with open(path, "rb") as stream:
                text = _read_text(stream, path)
                if not sealed(text):
                    what = "is corrupt: its header does not match its checksum"
                    raise ProductError(path, what, REMAKE)
                return cls(path, text, _read_headers(stream, path), todo or _FETCH)
        except OSError as error:
            raise ProductError(path, error.strerror or str(error), "check the path") from error
        except ProductError as error:
            raise ProductError(path, error.what, todo or error.todo) from error

    @cached_property
    def tree(self) -> dict:
        """
        The tree as plain dicts, lists, numbers and strings (tags dropped, arrays as nodes).

        Raises
        ------
        ProductError
            The tree is not valid YAML, is nested or aliased beyond reason, or names a block that the file does
            not have.
        """
        try:
            tree = load_tree(self.text)
        except ValueError as error:
            raise ProductError(self.path, f"is corrupt: {error}", self.todo) from error
        missing = max(sources(tree), default=-1)
        if missing >= len(self.blocks):
            raise ProductError(self.path, f"is cut short: it has no block {missing}", self.todo)
        return tree

    def fingerprint(self) -> str:
        """
        Identity of the content: SHA-256 (hex) of the tree and of every block's size and checksum.

        A block without a checksum in its header is hashed itself, so that the identity is always true to
        the content.
        """
        digest = hashlib.sha256(self.text)
        for block in self.blocks:
            checksum = block.checksum
            if checksum == NO_CHECKSUM:
                checksum = self._md5(block)
            digest.update(struct.pack(">QQ", block.used, block.size) + checksum)
        return digest.hexdigest()

    def array(self, node: dict | list) -> np.ndarray:
        """
        Array of a tree's node.

        Parameters
        ----------
        node : dict or list
            What `tree` gives for an ndarray.

        Returns
        -------
        array
            A read-only memory map where the block is not compressed; unpacked, or inlined, otherwise. A map
            holds its file open, and its pages count as the process's memory, until it is dropped.

        Raises
        ------
        ProductError
            The node is damaged, or its block is missing, damaged, or smaller than the array.
        """
        try:
            if isinstance(node, list):
                return np.array(node)
            dtype = _dtype(node)
            if "data" in node:
                return np.array(node["data"], dtype=dtype).reshape(node.get("shape", -1))
            shape = tuple(int(n) for n in node["shape"])
            offset = int(node.get("offset", 0))
            if min(*shape, offset, 0) < 0 or not -1 <= node["source"] < len(self.blocks):
                raise ValueError("out of range")
            block = self.blocks[node["source"]]
            if "strides" in node:
                raise ValueError("with gaps between its values")
            if offset + math.prod(shape) * dtype.itemsize > block.size:
                raise ValueError("beyond its block")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ProductError(self.path, f"has a damaged array ({error!r})", self.todo) from error
        if math.prod(shape) == 0:  # nothing to map
            return np.empty(shape, dtype)
        if block.compression:
            return np.ndarray(shape, dtype, self._unpacked(block), offset)
        return np.memmap(self.path, dtype=dtype, mode="r", offset=block.start + offset, shape=shape)

    def planes(self, node: dict) -> Iterator[np.ndarray]:
        """
        Arrays along the first axis of an array, one in memory at a time.

        Parameters
        ----------
        node : dict
            What `tree` gives for an ndarray.

        Yields
        ------
        array
            Valid until the next one.

        Raises
        ------
        ProductError
            As for `array`.
        """
        source = node.get("source", -1)
        block = self.blocks[source] if 0 <= source < len(self.blocks) else None
        if block is None or block.compression != "lz4" or node.get("offset", 0):
            yield from self.array(node)
            return
        dtype, shape = _dtype(node), tuple(node["shape"])
        plane = np.empty(math.prod(shape[1:]) * dtype.itemsize, np.uint8)
        done = made = 0
        try:
            for piece in lz4_pieces(self.stored(block), block.size):
                while piece.size and made < shape[0]:
                    part = piece[: plane.size - done]
                    plane[done : done + part.size] = part
                    piece, done = piece[part.size :], done + part.size
                    if done == plane.size:
                        yield plane.view(dtype).reshape(shape[1:])
                        done, made = 0, made + 1
        except Exception as error:  # each library has its own kinds
            raise ProductError(
                self.path, f"has a block that cannot be unpacked ({error})", self.todo
            ) from error
        if made < shape[0]:
            raise ProductError(self.path, "has a block that is not of the size it says", self.todo)

    def window(self, node: dict, window: tuple[int, int, int, int]) -> np.ndarray:
        """
        Read a part of an array; of an lz4 block only the pieces that hold its rows are unpacked.

        Parameters
        ----------
        node : dict
            What `tree` gives for an ndarray of two or more axes.
        window : tuple of int
            (y0, y1, x0, x1) of the last two axes, half-open, within the array.

        Returns
        -------
        (..., y1 - y0, x1 - x0) array
            A copy.

        Raises
        ------
        ProductError
            As `array` raises it.
        """
        y0, y1, x0, x1 = window
        block = self.blocks[node["source"]] if isinstance(node.get("source"), int) else None
        if block is None or block.compression != "lz4":
            return np.array(self.array(node)[..., y0:y1, x0:x1])
        dtype, (*outer, ny, nx) = _dtype(node), (int(n) for n in node["shape"])
        out = np.empty((*outer, y1 - y0, x1 - x0), dtype)
        rows = np.empty((y1 - y0) * nx * dtype.itemsize, np.uint8)
        for number, plane in enumerate(np.ndindex(*outer)):
            start = int(node.get("offset", 0)) + (number * ny + y0) * nx * dtype.itemsize
            try:
                size = unpack_part(self.stored(block), block.size, start, rows)
            except (ValueError, struct.error) as error:
                what = f"has a block that cannot be unpacked ({error})"
                raise ProductError(self.path, what, self.todo) from error
            if size != rows.size:
                raise ProductError(self.path, "has a block that is cut short", self.todo)
            out[plane] = rows.view(dtype).reshape(y1 - y0, nx)[:, x0:x1]
        return out

    def stored(self, block: Block) -> memoryview:
        """Bytes of a block as they are in the file, mapped."""
        if block.used == 0:
            return memoryview(b"")
        return memoryview(np.memmap(self.path, np.uint8, "r", block.start, block.used))

    def _unpacked(self, block: Block) -> np.ndarray:
        """Content of a compressed block, uint8."""
        content = np.empty(block.size, np.uint8)
        try:
            size = unpack(block.compression, self.stored(block), content)
        except Exception as error:  # each library has its own kinds
            raise ProductError(
                self.path, f"has a block that cannot be unpacked ({error})", self.todo
            ) from error
        if size != block.size:
            raise ProductError(self.path, "has a block that is not of the size it says", self.todo)
        return content

    def verify(self, numbers: Iterable[int] | None = None, largest: float = math.inf) -> None:
        """
        Check blocks against the checksums in their headers.

        ASDF lets a block have none (16 zero bytes): nothing is known of such a one, and it passes.

        Parameters
        ----------
        numbers : iterable of int, optional
            Which; default: all.
        largest : float, optional
            Leave out blocks of more bytes than this.

        Raises
        ------
        ProductError
            A block's bytes are not those that were written.
        """
        for number in range(len(self.blocks)) if numbers is None else numbers:
            block = self.blocks[number]
            if block.used <= largest and block.checksum not in (NO_CHECKSUM, self._md5(block)):
                what = f"is corrupt: block {number} does not match its checksum"
                raise ProductError(self.path, what, self.todo)

    def _md5(self, block: Block) -> bytes:
        """MD5 of a block's bytes in the file, as ASDF defines the checksum."""
        digest = hashlib.md5(usedforsecurity=False)
        with open(self.path, "rb", buffering=0) as stream:
            stream.seek(block.start)
            left, buffer = block.used, memoryview(bytearray(min(block.used, 1 << 18)))
            while left > 0:
                n = stream.readinto(buffer[:left])
                if n == 0:
                    break
                digest.update(buffer[:n])
                left -= n
        return digest.digest()


def _read_text(stream, path: Path) -> bytes:
    """Read the header and the YAML tree, leaving the stream behind the tree's end marker."""
    text = bytearray()
    while len(text) <= MAX_TREE_BYTES:
        more = stream.read(1 << 18)
        text += more
        if not text.startswith(b"#ASDF "):
            what = "is not an ASDF file" if text else "is empty"
            raise ProductError(path, what, "give calibrated Level-2 files (_cal.asdf)")
        # The marker may straddle two pieces.
        found = _YAML_END.search(text, max(len(text) - len(more) - 8, 0))
        if found:
            stream.seek(found.end())
            return bytes(text[: found.end()])
        if not more:
            raise ProductError(path, "is cut short in its header", _FETCH)
    raise ProductError(path, f"has no end of its header within {MAX_TREE_BYTES} bytes", _FETCH)


def _read_headers(stream, path: Path) -> list[Block]:
    """Walk the block headers, from the end of the tree to the block index."""
    size = os.fstat(stream.fileno()).st_size
    blocks, places = [], []
    _skip_padding(stream, path)
    while magic := stream.read(4):
        if magic != BLOCK_MAGIC:
            _check_index(magic + stream.read(64 * (len(blocks) + 4)), places, path)
            break
        places.append(stream.tell() - 4)
        header = stream.read(2)
        header_size = struct.unpack(">H", header)[0] if len(header) == 2 else 0
        header = stream.read(header_size)
        if header_size < BLOCK_HEADER.size or len(header) < header_size:
            raise ProductError(path, "is cut short", _FETCH)
        flags, compression, allocated, used, data_size, checksum = BLOCK_HEADER.unpack_from(header)
        start = stream.tell()
        streamed = bool(flags & 1)
        if streamed:
            allocated = used = data_size = size - start
        if start + allocated > size or used > allocated:
            raise ProductError(path, f"is cut short: block {len(blocks)} is incomplete", _FETCH)
        packing = compression.strip(b"\0").decode("latin1")
        if not packing and data_size != used:
            raise ProductError(path, f"is corrupt: block {len(blocks)} has two sizes", _FETCH)
        blocks.append(Block(start, used, data_size, packing, checksum))
        if streamed:
            break
        stream.seek(start + allocated)
    return blocks


def _skip_padding(stream, path: Path) -> None:
    """Go to the first byte that is not zero: the tree may be followed by any number of zeros."""
    start = stream.tell()
    while stream.tell() - start <= _MAX_PADDING:
        piece = stream.read(1 << 18)
        if not piece:
            return
        rest = piece.lstrip(b"\0")
        if rest:
            stream.seek(-len(rest), os.SEEK_CUR)
            return
    raise ProductError(path, "is corrupt: zeros where blocks should be", _FETCH)


def _check_index(text: bytes, places: list[int], path: Path) -> None:
    """Refuse what follows the last block unless it is the index of these blocks, which asdf relies on."""
    if not text.startswith(_INDEX_MAGIC):
        raise ProductError(path, "is corrupt between its blocks", _FETCH)
    _, _, entries = text.partition(b"---")
    if [int(place) for place in re.findall(rb"\d+", entries)] != places:
        raise ProductError(path, "is cut short or corrupt in its block index", _FETCH)


def _dtype(node: dict) -> np.dtype:
    name = str(node["datatype"])
    if not DATATYPE.fullmatch(name):
        raise ValueError(f"datatype {name}")
    order = {"big": ">", "little": "<"}.get(node.get("byteorder"), "=")
    return np.dtype(name.replace("bool8", "bool")).newbyteorder(order)
