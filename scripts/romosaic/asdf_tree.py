"""
The YAML tree of an ASDF file as plain values, parsed without trust.

A damaged or hostile header must end in a message. Deep nesting overflows the stack of the YAML library, which
kills the process, and a few lines of aliases can stand for billions of values, on which everything that walks
the tree hangs. Both show in the events of the parser, which take no stack.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache

#: Nesting at which the YAML library is still far from overflowing its stack; real trees have 20 levels.
MAX_DEPTH = 200
#: Values of a tree with its aliases written out; real trees have thousands.
MAX_VALUES = 5_000_000
#: A header larger than this is not one that a Roman file has (a real one is under 1 MB).
MAX_TREE_BYTES = 16_000_000
#: ASDF has checksums of blocks and none of the tree: a comment line of our own before the tree holds one.
_SEAL = re.compile(rb"^#ROMOSAIC (.*)\n", re.MULTILINE)
_TREE = re.compile(rb"^%YAML", re.MULTILINE)
_END = b"...\n"
#: The last line of a tree of ours, a comment, holds it as JSON, which is read fifty times as fast.
_JSON = b"#ROMOSAIC-JSON "


def load_tree(text: bytes) -> object:
    """
    Parse a tree into dicts, lists, numbers and strings, without its tags.

    Parameters
    ----------
    text : bytes
        Header of an ASDF file, from its first line to the end marker of its tree.

    Raises
    ------
    ValueError
        The text is not valid YAML, or is nested or aliased beyond reason.
    """
    try:
        line = text[text.rfind(b"\n", 0, -len(_END) - 1) + 1 : -len(_END)]
        if line.startswith(_JSON) and _SEAL.search(head_of(text)):  # who sealed it wrote both
            return json.loads(line[len(_JSON) :])
        import yaml

        problem = _problem(yaml.parse(text, Loader=_base(yaml, "Loader")))
        if problem is None:
            return yaml.load(text, Loader=_plain_loader())
    except Exception as error:  # a scalar that is not what its tag says raises anything
        raise ValueError(f"unreadable header ({type(error).__name__})") from error
    raise ValueError(problem)


def load_nodes(text: bytes):
    """
    Parse a tree that `load_tree` has taken into the nodes of the YAML library, which keep its tags.

    Parameters
    ----------
    text : bytes
        As for `load_tree`.

    Returns
    -------
    yaml.Node
    """
    import yaml

    return yaml.compose(text, Loader=_base(yaml, "Loader"))


def with_json(text: bytes, root) -> bytes:
    """
    Serialized tree with a comment line that holds it as JSON, for `load_tree`.

    Parameters
    ----------
    text : bytes
        The tree, up to its end marker.
    root : yaml.Node
        What it was serialized from.

    Returns
    -------
    bytes
        The text as it is where JSON would not give the same (of times, NaN, and keys that are numbers),
        would be longer, as it has no aliases, or make the header too large to be read.
    """
    tree = _plain_loader()(b"").construct_document(root)
    line, left = [], min(len(text), MAX_TREE_BYTES // 2 - len(text))
    try:
        # ASCII: some other letters end a comment of YAML
        for piece in json.JSONEncoder(separators=(",", ":")).iterencode(tree):
            line.append(piece)
            left -= len(piece)
            if left < 0:
                return text
    except (TypeError, ValueError):
        return text
    line = "".join(line)
    if json.loads(line) != tree:
        return text
    return text.removesuffix(_END) + _JSON + line.encode() + b"\n" + _END


def sources(tree: object) -> Iterator[int]:
    """Yield the numbers of the blocks that the arrays of a tree are in."""
    seen, waiting = set(), [tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, dict | list) or id(node) in seen:
            continue
        seen.add(id(node))
        waiting.extend(node.values() if isinstance(node, dict) else node)
        if isinstance(node, dict) and "datatype" in node and isinstance(node.get("source"), int):
            yield node["source"]


def head_of(text: bytes) -> bytes:
    """Comments before a tree; all of a text that has no tree, or one without its first line."""
    found = _TREE.search(text)
    return text[: found.start()] if found else text


def seal(text: bytes) -> bytes:
    """Comment line with the SHA-256 of a header that has no such line yet."""
    return b"#ROMOSAIC " + hashlib.sha256(text).hexdigest().encode() + b"\n"


def without_seal(text: bytes) -> bytes:
    """Header without the comment line of `seal`."""
    head = head_of(text)
    return _SEAL.sub(b"", head) + text[len(head) :]


def sealed(text: bytes) -> bool:
    """Whether a header is the one that was sealed; one that never was is taken."""
    found = _SEAL.findall(head_of(text))
    return not found or found == [seal(without_seal(text))[10:-1]]


def _base(yaml, kind: str):
    """Safe loader or dumper of the YAML library, the compiled one where there is one."""
    return getattr(yaml, f"CSafe{kind}", getattr(yaml, f"Safe{kind}"))


def _problem(events: Iterator) -> str | None:
    """Tell of nesting and aliases beyond reason."""
    import yaml

    sizes, anchors, closed = [0], [], {}
    for event in events:
        size = 0
        if isinstance(event, yaml.ScalarEvent):  # first, as nearly all are
            size = closed[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(sizes) > MAX_DEPTH:
                return f"header nested over {MAX_DEPTH} levels"
            sizes.append(1)
            anchors.append(event.anchor)
            closed.pop(event.anchor, None)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = closed[anchors.pop()] = sizes.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in closed:
                return "header that refers to itself"
            size = closed[event.anchor]
        sizes[-1] += size
        if sizes[-1] > MAX_VALUES:
            return f"header that stands for over {MAX_VALUES} values"
    return None


@cache
def _plain_loader():
    import yaml

    class Loader(_base(yaml, "Loader")):
        pass

    def untagged(loader, node):
        if isinstance(node, yaml.MappingNode):
            return loader.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return loader.construct_scalar(node)

    Loader.add_constructor(None, untagged)
    return Loader
