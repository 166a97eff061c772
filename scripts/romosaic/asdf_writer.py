"""
ASDF files written without asdf's plugins: trees of plain values, and changed copies of tagged files.

Validating and converting what is valid already would cost `flux` more than its pixels do: a copy keeps the tags
of its source, takes blocks over as they are stored, and changes the named values and arrays only.
"""

import hashlib
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from .asdf_blocks import BLOCK_HEADER, BLOCK_MAGIC, DATATYPE, NO_CHECKSUM, AsdfBlocks, Block
from .asdf_compression import pack
from .asdf_tree import head_of, load_nodes, seal, with_json, without_seal
from .atomic import begin_flush
from .checked_plane import n_pieces, piece_checksums
from .errors import ProductError
from .memory import give_back
from .threads import in_order

ASDF = "tag:stsci.edu:asdf/"
_HEAD = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n"
_YAML_TAG = "tag:yaml.org,2002:"
_INTEGER = f"{_YAML_TAG}int"
_REMAKE = "make it again"
#: Blocks begin at multiples of so many bytes.
_ALIGNED = 64


@dataclass(frozen=True)
class Tagged:
    """A value of a tree with its YAML tag, which says what asdf makes of it."""

    tag: str
    value: object


@dataclass(frozen=True)
class Packed:
    """
    An array packed by lz4: see `pack_array`.

    Attributes
    ----------
    content : (n,) uint8 array
        Its block as stored.
    shape, dtype, nbytes
        Those of the array.
    """

    content: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int


def pack_array(array: np.ndarray) -> Packed | np.ndarray:
    """
    Pack an array that is to be part of a tree.

    Parameters
    ----------
    array : array
        Of numbers.

    Returns
    -------
    Packed or array
        The array itself where packing would gain too little: see `asdf_compression.pack`.
    """
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    pieces = pack(memoryview(array.reshape(-1).view(np.uint8)))
    if pieces is None:
        return array
    content = np.frombuffer(b"".join(pieces), np.uint8)
    return Packed(content, array.shape, array.dtype, array.nbytes)


def time_tree(text: str) -> Tagged:
    """Time in ISO format, as what is read back as an `astropy.time.Time`."""
    return Tagged(f"{ASDF}time/time-1.4.0", text)


def write_asdf(
    path: str | Path, tree: dict, packed: bool = False, threads: int = 1, consume: bool = False
) -> None:
    """
    Write a tree of plain values and arrays as a valid ASDF file.

    Parameters
    ----------
    path : str or path
        File to write; use within `atomic.atomic`.
    tree : dict
        Dicts, lists, strings, numbers, booleans, None, numpy arrays of numbers or text (C order is made),
        `Packed` ones, and any of these as `Tagged`.
    packed : bool, optional
        Compress the arrays that it makes smaller: see `asdf_compression.pack`.
    threads : int, optional
        Threads that compress and hash while one of them writes; the file does not depend on it.
    consume : bool, optional
        Give back the memory of arrays as they are written, their values with it: see `memory.give_back`.

    Raises
    ------
    TypeError
        A value or an array is of another kind.
    """
    blocks: list = []
    root = _represent(tree, blocks)
    root.tag = f"{ASDF}core/asdf-1.1.0"
    _write(path, _HEAD, root, blocks, packed, threads, consume=consume)


def write_copy(
    path: str | Path,
    source: AsdfBlocks,
    changes: Mapping[tuple[str, ...], object],
    more: dict,
    consume: bool = False,
) -> None:
    """
    Write a changed copy of an ASDF file; tags, and the arrays that do not change, are kept as they are stored.

    Large blocks get no MD5: ``checksums`` at the top of the tree has those of their pieces, block after block
    (see `checked_plane`).

    Parameters
    ----------
    path : str or path
        File to write; use within `atomic.atomic`.
    source : AsdfBlocks
        The file to copy, its tree and its checksums proven.
    changes : mapping
        New values by their path of keys: texts, which take the tag of the value they replace, and arrays,
        written uncompressed, or `Packed` ones.
    more : dict
        Plain values and arrays to add at the top of the tree, in place of what has their names there.
    consume : bool, optional
        As for `write_asdf`.

    Raises
    ------
    ProductError
        An array of the source has no definite size, or a key of a path stands for no mapping.
    """
    blocks: list = []
    root = load_nodes(source.text)
    # What is replaced is taken out first: its array must not be copied, unless something else refers to it.
    places = [_take_out(source, root, keys) for keys in changes]
    taken = {*more, "checksums"}
    root.value = [(key, value) for key, value in root.value if key.value not in taken]
    _keep_arrays(source, root, blocks)
    for (mapping, index, old), value in zip(places, changes.values(), strict=True):
        new = _represent(value, blocks)
        if old is not None and isinstance(value, str):
            new.tag = old.tag if not old.tag.startswith(_YAML_TAG) else new.tag
        mapping.value[index] = mapping.value[index][0], new
    root.value += _represent(more, blocks).value
    checksums = np.concatenate([piece_checksums(_bytes(block)) for block in blocks])
    root.value += _represent({"checksums": checksums}, blocks).value
    text = without_seal(source.text)
    head = head_of(text)
    head = head if len(head) < len(text) else _HEAD
    _write(path, head, root, blocks, by_pieces=True, consume=consume)


def _take_out(source: AsdfBlocks, root, keys: tuple[str, ...]) -> tuple:
    """Mapping, place in it, and node of the value at a path of keys; the value is null afterwards, if new."""
    import yaml

    null = yaml.ScalarNode(f"{_YAML_TAG}null", "null")
    for depth, key in enumerate(keys):
        if not isinstance(root, yaml.MappingNode):
            raise ProductError(source.path, f"has no {'.'.join(keys[:depth])} to write to", _REMAKE)
        mapping = root
        found = [n for n, (name, _) in enumerate(mapping.value) if name.value == key]
        if not found:
            mapping.value.append((yaml.ScalarNode(f"{_YAML_TAG}str", key), null))
            found = [len(mapping.value) - 1]
        root = mapping.value[found[0]][1]
    mapping.value[found[0]] = mapping.value[found[0]][0], null
    return mapping, found[0], None if root is null else root


def _keep_arrays(source: AsdfBlocks, root, blocks: list) -> None:
    """Number the arrays that a tree still has anew, and note their blocks to be copied."""
    import yaml

    numbers, seen, waiting = {}, set(), [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)
            continue
        waiting += [value for _, value in reversed(node.value)]
        entries = {k.value: v for k, v in node.value if isinstance(k.value, str)}
        if not ({"source", "datatype"} <= entries.keys() and entries["source"].tag == _INTEGER):
            continue
        number = int(entries["source"].value)
        if not 0 <= number < len(source.blocks):
            raise ProductError(source.path, "has an array without a definite size", _REMAKE)
        if number not in numbers:
            numbers[number] = len(blocks)
            blocks.append((source, source.blocks[number]))
        entries["source"].value = str(numbers[number])


def _represent(tree: object, blocks: list):
    """Nodes of plain values and arrays; the arrays are appended to `blocks`."""
    import yaml

    class Representer(yaml.representer.SafeRepresenter):
        def ignore_aliases(self, data):
            return True

    def represent_tagged(representer, tagged):
        node = representer.represent_data(tagged.value)
        node.tag = tagged.tag
        return node

    def represent_array(representer, array):
        node = _array_node(array, len(blocks))
        # Not ascontiguousarray: that makes a single number a list of one.
        blocks.append(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"))
        return representer.represent_mapping(f"{ASDF}core/ndarray-1.1.0", node)

    def represent_packed(representer, array):
        blocks.append(array)
        node = _array_node(array, len(blocks) - 1)
        return representer.represent_mapping(f"{ASDF}core/ndarray-1.1.0", node)

    Representer.add_multi_representer(np.ndarray, represent_array)
    Representer.add_representer(Packed, represent_packed)
    Representer.add_representer(Tagged, represent_tagged)
    Representer.add_multi_representer(np.floating, lambda r, v: r.represent_float(float(v)))
    Representer.add_multi_representer(np.integer, lambda r, v: r.represent_int(int(v)))
    Representer.add_multi_representer(np.bool_, lambda r, v: r.represent_bool(bool(v)))
    Representer.add_multi_representer(np.str_, lambda r, v: r.represent_str(str(v)))
    try:
        # Flow style for collections of scalars, as asdf itself lays them out.
        return Representer(default_flow_style=None, sort_keys=False).represent_data(tree)
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"values like {error.args[-1]!r} cannot be written") from error


def _array_node(array: np.ndarray | Packed, block: int) -> dict:
    """Return what stands for an array in the tree."""
    name = "bool8" if array.dtype == bool else array.dtype.name
    if array.dtype.kind == "U":
        name = ["ucs4", array.dtype.itemsize // 4]
    elif not DATATYPE.fullmatch(name):
        raise TypeError(f"arrays of {array.dtype} cannot be written")
    shape = [int(n) for n in array.shape]
    return {"source": block, "datatype": name, "byteorder": sys.byteorder, "shape": shape}


def _write(
    path: str | Path,
    head: bytes,
    root,
    blocks: list,
    packed: bool = False,
    threads: int = 1,
    by_pieces: bool = False,
    consume: bool = False,
) -> None:
    """Write the tree, then the blocks: arrays of ours, packed or not, or pairs (file, block) to be copied."""
    import yaml

    text = yaml.serialize(
        root,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        version=(1, 1),
        tags={"!": ASDF},
        explicit_start=True,
        explicit_end=True,
        width=120,
        encoding="utf-8",
    )
    text = with_json(text, root)
    with open(path, "wb") as stream:
        stream.write(head + seal(head + text) + text)
        made = in_order(partial(_stored, packed, by_pieces), blocks, threads)
        for number, (stored, pieces) in enumerate(made):
            # The header is made longer, so that who maps the block gets aligned values.
            rest = -(stream.tell() + len(BLOCK_MAGIC) + 2 + BLOCK_HEADER.size) % _ALIGNED
            stream.write(BLOCK_MAGIC + struct.pack(">H", BLOCK_HEADER.size + rest))
            packing = stored.compression.encode("latin1").ljust(4, b"\0")
            sizes = (stored.used, stored.used, stored.size)
            stream.write(BLOCK_HEADER.pack(0, packing, *sizes, stored.checksum) + bytes(rest))
            start = stream.tell()
            for piece in pieces:
                stream.write(piece)
            begin_flush(stream, start)
            if consume:
                _consume(blocks, number)


def _consume(blocks: list, number: int) -> None:
    """Give back the memory of a block of ours, unless a later one is of the same."""
    block = blocks[number]
    if isinstance(block, np.ndarray):
        later = (other for other in blocks[number + 1 :] if isinstance(other, np.ndarray))
        if not any(np.may_share_memory(block, other) for other in later):
            give_back(block)


def _bytes(block) -> np.ndarray:
    """Bytes of an array of ours, or of a block as it is stored; uint8."""
    if isinstance(block, np.ndarray):
        return block.reshape(-1).view(np.uint8)
    if isinstance(block, Packed):
        return block.content
    source, stored = block
    return np.frombuffer(source.stored(stored), np.uint8)


def _stored(packed: bool, by_pieces: bool, block) -> tuple[Block, list]:
    """Header of a block, as of a file, and its bytes in pieces."""
    content = memoryview(_bytes(block))
    unhashed = by_pieces and n_pieces(len(content)) > 0
    if isinstance(block, Packed):
        checksum = NO_CHECKSUM if unhashed else _md5([content])
        return Block(0, len(content), block.nbytes, "lz4", checksum), [content]
    if not isinstance(block, np.ndarray):
        stored = block[1]
        if unhashed or stored.checksum == NO_CHECKSUM:
            stored = replace(stored, checksum=NO_CHECKSUM if unhashed else _md5([content]))
        return stored, [content]
    pieces = pack(content) if packed else None
    compression = "lz4" if pieces else ""
    pieces = pieces or [content]
    used, checksum = sum(len(piece) for piece in pieces), NO_CHECKSUM if unhashed else _md5(pieces)
    return Block(0, used, content.nbytes, compression, checksum), pieces


def _md5(pieces: list) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
