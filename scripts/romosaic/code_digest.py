"""Digest of a step's code, so that changed code reruns the step and a changed comment does not."""

import ast
import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parent


def code_digest(step: str, package: str | Path = _PACKAGE) -> str:
    """
    Digest of the script and the module of a step, and of every module of the package that they import.

    Snakemake sees the date of a script, which a new clone changes, and nothing of what the script imports. The
    digest is taken of the code that the syntax trees say, without docstrings: layout, comments and dates do
    not count.

    Parameters
    ----------
    step : str
        Name of the step: of its module, and of its script beside the package, if it has one.
    package : str or path, optional
        Folder of the package.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    package, digest = Path(package), hashlib.sha256()
    script = package.parent / f"{step}.py"
    for path in [script] * script.exists() + [package / f"{n}.py" for n in modules(step, package)]:
        code, _ = _parsed(_source(path), package.name)
        digest.update(f"{path.stem}\n{code}\n".encode())
    return digest.hexdigest()[:16]


def modules(step: str, package: str | Path = _PACKAGE) -> list[str]:
    """
    List the modules of the package that a step uses, by name.

    Parameters
    ----------
    step, package
        As for `code_digest`.
    """
    package = Path(package)
    seen: set[str] = set()
    waiting = [package.parent / f"{step}.py", package / f"{step}.py"]
    while waiting:
        path = waiting.pop()
        if path.parent == package:
            seen.add(path.stem)
        source = _source(path) if path.exists() else ""
        _, imported = _parsed(source, package.name)
        found = {name for name in imported if (package / f"{name}.py").exists()}
        waiting += [package / f"{name}.py" for name in sorted(found - seen)]
    return sorted(name for name in seen if (package / f"{name}.py").exists())


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _parsed(source: str, package: str) -> tuple[str, frozenset[str]]:
    """Code of a module without its documentation, and the names that it imports from the package."""
    text: list[str] = []
    names: set[str] = set()
    _write(ast.parse(source), package, text, names)
    return "".join(text), frozenset(names)


def _write(node: object, package: str, text: list[str], names: set[str]) -> None:
    """
    Write a syntax tree in a way that all versions of Python share, in one pass: every start waits for it.

    Parameters
    ----------
    node : AST, list or plain value
        What to write.
    package : str
        Name of the package whose imports count.
    text, names : list and set of str
        Receive the text, and the names that are imported from the package.
    """
    if isinstance(node, ast.AST):
        text.append(f"{type(node).__name__}(")
        for key in node._fields:
            value = getattr(node, key, None)
            if (
                value is not None and value != [] and key != "ctx"
            ):  # the place says what the context is
                text.append(f"{key}=")
                _write(value, package, text, names)
        text.append(")")
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(_imported(node, package))
    elif isinstance(node, list):
        for item in node:
            if not _does_nothing(item):
                _write(item, package, text, names)
                text.append(" ")
    else:
        text.append(repr(node))


def _does_nothing(node: object) -> bool:
    """Whether this is a string that stands alone, or imports for type checkers only."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name):
        return node.test.id == "TYPE_CHECKING" and not node.orelse
    return False


def _imported(node: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """Names of the modules of the package that a statement may import."""
    if isinstance(node, ast.Import):
        dotted = [alias.name.split(".") for alias in node.names]
        return [parts[1] for parts in dotted if parts[0] == package and len(parts) > 1]
    parts = (node.module or "").split(".") if node.module else []
    if node.level == 0 and parts[:1] == [package]:
        parts = parts[1:]
    elif node.level != 1:
        return []
    return parts[:1] or [alias.name for alias in node.names]
