"""
ASDF files read without asdf's plugins: tree, block headers, memory-mapped arrays.

Opening a file with `asdf.open` loads every plugin that is installed, 2-3 CPU seconds before the first pixel.
The steps between `flux` and `resample` need a plain tree and a few uncompressed arrays: this module gives them
those from the file's own structure (ASDF standard 1.6, "Low-level file layout").
"""

import hashlib
import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import ProductError

_YAML_END = re.compile(rb"\r?\n\.\.\.\r?\n")
_BLOCK_MAGIC = b"\xd3BLK"
_INDEX_MAGIC = b"#ASDF BLOCK INDEX"
_HEADER = struct.Struct(">I4sQQQ16s")
_NO_CHECKSUM = bytes(16)
#: A tree larger than this is not one that a Roman file has (a real one is under 1 MB).
MAX_TREE_BYTES = 64_000_000


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
    """

    path: Path
    text: bytes
    blocks: list[Block]

    @classmethod
    def read(cls, path: str | Path) -> "AsdfBlocks":
        """
        Read the tree's text and the block headers; no pixel is touched.

        Raises
        ------
        ProductError
            The file is missing, is not ASDF, or is cut short.
        """
        path = Path(path)
        try:
            with open(path, "rb") as stream:
                text = _read_text(stream, path)
                return cls(path, text, _read_headers(stream, path))
        except OSError as error:
            raise ProductError(path, error.strerror or str(error), "check the path") from error

    def tree(self) -> dict:
        """
        Parse the tree into plain dicts, lists, numbers and strings (tags dropped, arrays as nodes).

        Raises
        ------
        ProductError
            The tree is not valid YAML.
        """
        import asdf.util

        try:
            return asdf.util.load_yaml(str(self.path))
        except Exception as error:  # the YAML library's and asdf's own errors share no base class
            raise ProductError(
                self.path, f"has an unreadable header ({type(error).__name__})", "make it again"
            ) from error

    def fingerprint(self) -> str:
        """
        Identity of the content: SHA-256 (hex) of the tree and of every block's size and checksum.

        A block without a checksum in its header is hashed itself, so that the identity is always true to
        the content.
        """
        digest = hashlib.sha256(self.text)
        for block in self.blocks:
            checksum = block.checksum
            if checksum == _NO_CHECKSUM:
                checksum = self._md5(block)
            digest.update(struct.pack(">QQ", block.used, block.size) + checksum)
        return digest.hexdigest()

    def array(self, node: dict | list) -> np.ndarray:
        """
        Array of a tree's node: a read-only memory map of an uncompressed block, or an inlined array.

        Parameters
        ----------
        node : dict or list
            What `tree` gives for an ndarray.

        Raises
        ------
        ProductError
            The block is compressed, missing, or smaller than the array.
        """
        if isinstance(node, list):
            return np.array(node)
        if "data" in node:
            return np.array(node["data"], dtype=_dtype(node)).reshape(node.get("shape", -1))
        try:
            block = self.blocks[node["source"]]
            dtype, shape = _dtype(node), tuple(node["shape"])
        except (KeyError, IndexError, TypeError) as error:
            raise ProductError(self.path, "has a damaged array", "make it again") from error
        needed = int(np.prod(shape)) * dtype.itemsize
        if block.compression or "strides" in node or node.get("offset", 0) + needed > block.size:
            raise ProductError(
                self.path, "has an array that cannot be mapped", "make it again with `flux`"
            )
        start = block.start + node.get("offset", 0)
        return np.memmap(self.path, dtype=dtype, mode="r", offset=start, shape=shape)

    def verify(self) -> None:
        """
        Check every block against the checksum in its header.

        Raises
        ------
        ProductError
            A block's bytes are not those that were written.
        """
        for number, block in enumerate(self.blocks):
            if block.checksum not in (_NO_CHECKSUM, self._md5(block)):
                raise ProductError(
                    self.path,
                    f"is corrupt: block {number} does not match its checksum",
                    "fetch the file again",
                )

    def _md5(self, block: Block) -> bytes:
        """MD5 of a block's bytes in the file, as ASDF defines the checksum."""
        digest = hashlib.md5(usedforsecurity=False)
        with open(self.path, "rb") as stream:
            stream.seek(block.start)
            left = block.used
            while left > 0:
                piece = stream.read(min(left, 1 << 22))
                if not piece:
                    break
                digest.update(piece)
                left -= len(piece)
        return digest.digest()


def _read_text(stream, path: Path) -> bytes:
    """Read the header and the YAML tree, leaving the stream behind the tree's end marker."""
    text = b""
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
            return text[: found.end()]
        if not more:
            break
    raise ProductError(path, "is cut short in its header", "fetch the file again")


def _read_headers(stream, path: Path) -> list[Block]:
    """Walk the block headers, from the end of the tree to the block index."""
    size = path.stat().st_size
    blocks = []
    while True:
        magic = stream.read(4)
        if magic != _BLOCK_MAGIC:
            # Behind the last block stand the index or nothing; padding before the first block is zeros.
            if not blocks and magic and not magic.strip(b"\0"):
                continue
            if magic and not _INDEX_MAGIC.startswith(magic):
                raise ProductError(path, "is corrupt between its blocks", "fetch the file again")
            return blocks
        header = stream.read(2)
        header_size = struct.unpack(">H", header)[0] if len(header) == 2 else 0
        header = stream.read(header_size)
        if header_size < _HEADER.size or len(header) < header_size:
            raise ProductError(path, "is cut short", "fetch the file again")
        flags, compression, allocated, used, data_size, checksum = _HEADER.unpack_from(header)
        start = stream.tell()
        streamed = bool(flags & 1)
        if streamed:
            allocated = used = data_size = size - start
        if start + used > size or used > allocated:
            raise ProductError(
                path, f"is cut short: block {len(blocks)} is incomplete", "fetch the file again"
            )
        packing = compression.strip(b"\0").decode("latin1")
        blocks.append(Block(start, used, data_size, packing, checksum))
        if streamed:
            return blocks
        stream.seek(start + allocated)


def _dtype(node: dict) -> np.dtype:
    dtype = np.dtype(str(node["datatype"]).replace("bool8", "bool"))
    order = {"big": ">", "little": "<"}.get(node.get("byteorder"), "=")
    if order == {"big": ">", "little": "<"}[sys.byteorder]:
        order = "="
    return dtype.newbyteorder(order)


def write_asdf(path: str | Path, tree: dict) -> None:
    """
    Write a tree of plain values and arrays as a valid ASDF file, uncompressed, without asdf's plugins.

    Parameters
    ----------
    path : str or path
        File to write; use within `product.atomic`.
    tree : dict
        Dicts, lists, strings, numbers, booleans, None and numpy arrays (C order is made).
    """
    import yaml

    arrays: list[np.ndarray] = []

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):
        def ignore_aliases(self, data):
            return True

    def represent_array(dumper, array):
        array = np.ascontiguousarray(array)
        node = {
            "source": len(arrays),
            "datatype": "bool8" if array.dtype == bool else array.dtype.name,
            "byteorder": "little" if sys.byteorder == "little" else "big",
            "shape": [int(n) for n in array.shape],
        }
        arrays.append(array)
        return dumper.represent_mapping("!core/ndarray-1.1.0", node)

    Dumper.add_multi_representer(np.ndarray, represent_array)
    Dumper.add_multi_representer(np.floating, lambda d, v: d.represent_float(float(v)))
    Dumper.add_multi_representer(np.integer, lambda d, v: d.represent_int(int(v)))
    text = yaml.dump(tree, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=120)
    with open(path, "wb") as stream:
        stream.write(b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n%YAML 1.1\n%TAG ! tag:stsci.edu:asdf/\n")
        stream.write(b"--- !core/asdf-1.1.0\n" + text.encode() + b"...\n")
        for array in arrays:
            content = array.astype(array.dtype.newbyteorder("="), copy=False).tobytes()
            checksum = hashlib.md5(content, usedforsecurity=False).digest()
            size = len(content)
            stream.write(_BLOCK_MAGIC + struct.pack(">H", _HEADER.size))
            stream.write(_HEADER.pack(0, bytes(4), size, size, size, checksum) + content)
