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
    tree = _Bare().visit(ast.parse(source))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
            names.update(parts[1] for parts in dotted if parts[0] == package and len(parts) > 1)
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level == 0 and parts[:1] == [package]:
                parts = parts[1:]
            elif node.level != 1:
                continue
            names.update(parts[:1] or [alias.name for alias in node.names])
    return _text(tree), frozenset(names)


def _text(node: object) -> str:
    """Write a syntax tree in a way that all versions of Python share."""
    if isinstance(node, ast.AST):
        fields = [(key, value) for key, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({' '.join(f'{key}={_text(v)}' for key, v in fields)})"
    if isinstance(node, list):
        return f"[{' '.join(map(_text, node))}]"
    return repr(node)


class _Bare(ast.NodeTransformer):
    """Leave out what does nothing: strings that stand alone, and imports for type checkers only."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if text else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.If | None:
        checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if checking and not node.orelse else self.generic_visit(node)
