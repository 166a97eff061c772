"""
ASDF files written without asdf's plugins: trees of plain values, and changed copies of tagged files.

Validating and converting what is valid already would cost `flux` more than its pixels do: a copy keeps the tags
of its source, takes blocks over as they are stored, and changes the named values and arrays only.
"""

import hashlib
import struct
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .asdf_blocks import BLOCK_HEADER, BLOCK_MAGIC, DATATYPE, AsdfBlocks, Block
from .asdf_tree import load_nodes, seal, without_seal
from .errors import ProductError

_PREFIX = "tag:stsci.edu:asdf/"
_HEAD = b"#ASDF 1.0.0\n#ASDF_STANDARD 1.6.0\n"
_YAML_TAG = "tag:yaml.org,2002:"
_INTEGER = f"{_YAML_TAG}int"
_REMAKE = "make it again"


def write_asdf(path: str | Path, tree: dict) -> None:
    """
    Write a tree of plain values and arrays as a valid ASDF file, uncompressed.

    Parameters
    ----------
    path : str or path
        File to write; use within `atomic.atomic`.
    tree : dict
        Dicts, lists, strings, numbers, booleans, None and numpy arrays of numbers (C order is made).

    Raises
    ------
    TypeError
        A value or an array is of another kind.
    """
    blocks: list = []
    root = _represent(tree, blocks)
    root.tag = f"{_PREFIX}core/asdf-1.1.0"
    _write(path, _HEAD, root, blocks)


def write_copy(
    path: str | Path,
    source: AsdfBlocks,
    changes: Mapping[tuple[str, ...], object],
    more: dict,
) -> None:
    """
    Write a changed copy of an ASDF file; tags, and the arrays that do not change, are kept as they are stored.

    Parameters
    ----------
    path : str or path
        File to write; use within `atomic.atomic`.
    source : AsdfBlocks
        The file to copy, its tree and its checksums proven.
    changes : mapping
        New values by their path of keys: texts, which take the tag of the value they replace, and arrays,
        written uncompressed.
    more : dict
        Plain values and arrays to add at the top of the tree, in place of what has their names there.

    Raises
    ------
    ProductError
        An array of the source has no definite size, or a key of a path stands for no mapping.
    """
    blocks: list = []
    root = load_nodes(source.text)
    # What is replaced is taken out first: its array must not be copied, unless something else refers to it.
    places = [_take_out(source, root, keys) for keys in changes]
    root.value = [(key, value) for key, value in root.value if key.value not in more]
    _keep_arrays(source, root, blocks)
    for (mapping, index, old), value in zip(places, changes.values(), strict=True):
        new = _represent(value, blocks)
        if old is not None and isinstance(value, str):
            new.tag = old.tag if not old.tag.startswith(_YAML_TAG) else new.tag
        mapping.value[index] = mapping.value[index][0], new
    root.value += _represent(more, blocks).value
    head, found, _ = without_seal(source.text).partition(b"%YAML")
    _write(path, head if found else _HEAD, root, blocks)


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

    def represent_array(representer, array):
        name = "bool8" if array.dtype == bool else array.dtype.name
        if not DATATYPE.fullmatch(name):
            raise TypeError(f"arrays of {array.dtype} cannot be written")
        # Not ascontiguousarray: that makes a single number a list of one.
        blocks.append(np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C"))
        node = {
            "source": len(blocks) - 1,
            "datatype": name,
            "byteorder": sys.byteorder,
            "shape": [int(n) for n in array.shape],
        }
        return representer.represent_mapping(f"{_PREFIX}core/ndarray-1.1.0", node)

    Representer.add_multi_representer(np.ndarray, represent_array)
    Representer.add_multi_representer(np.floating, lambda r, v: r.represent_float(float(v)))
    Representer.add_multi_representer(np.integer, lambda r, v: r.represent_int(int(v)))
    Representer.add_multi_representer(np.bool_, lambda r, v: r.represent_bool(bool(v)))
    Representer.add_multi_representer(np.str_, lambda r, v: r.represent_str(str(v)))
    try:
        # Flow style for collections of scalars, as asdf itself lays them out.
        return Representer(default_flow_style=None, sort_keys=False).represent_data(tree)
    except yaml.representer.RepresenterError as error:
        raise TypeError(f"values like {error.args[-1]!r} cannot be written") from error


def _write(path: str | Path, head: bytes, root, blocks: list) -> None:
    """Write the tree, then the blocks: arrays of ours, or pairs (file, block) to be copied."""
    import yaml

    text = yaml.serialize(
        root,
        Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper),
        version=(1, 1),
        tags={"!": _PREFIX},
        explicit_start=True,
        explicit_end=True,
        width=120,
        encoding="utf-8",
    )
    with open(path, "wb") as stream:
        stream.write(head + seal(head + text) + text)
        for block in blocks:
            if isinstance(block, np.ndarray):
                content = memoryview(block.reshape(-1).view(np.uint8))
                checksum = hashlib.md5(content, usedforsecurity=False).digest()
                stored = Block(0, content.nbytes, content.nbytes, "", checksum)
            else:
                source, stored = block
                content = source.stored(stored)
            stream.write(BLOCK_MAGIC + struct.pack(">H", BLOCK_HEADER.size))
            packing = stored.compression.encode("latin1").ljust(4, b"\0")
            sizes = (stored.used, stored.used, stored.size)
            stream.write(BLOCK_HEADER.pack(0, packing, *sizes, stored.checksum))
            stream.write(content)
