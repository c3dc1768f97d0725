"""Which code decides a run's numbers, as a fingerprint that comments, docstrings and messages do not change."""

import ast
import re
from functools import cache
from pathlib import Path

import sodakit
from sodakit.files import digest

NUMERIC_PACKAGES = ("tokens", "store", "data", "model", "train")
"""The code that decides the numbers of a run."""
TELLING = (
    "data/describe.py", "store/summary.py", "store/written.py",
    "train/cost.py", "train/identity.py", "train/metrics.py", "train/page.py",
)  # fmt: skip
"""Files of those packages that only say something of a run."""


@cache
def code_digest() -> str:
    """A fingerprint of the code that decides a run's numbers: of what it computes, not of how it is written."""
    root = Path(sodakit.__file__).parent
    found = (p for name in NUMERIC_PACKAGES for p in (root / name).rglob("*"))
    files = {p.relative_to(root).as_posix(): p for p in found if p.suffix in (".py", ".cpp")}
    return digest(*(part for name in sorted({*files} - {*TELLING}) for part in (name, computed(files[name]))))


def computed(path: Path) -> str:
    """A source file without comments, docstrings, layout and the words of its errors."""
    text = path.read_text(encoding="utf-8")
    return _cpp(text) if path.suffix == ".cpp" else ast.unparse(_Computed().visit(ast.parse(text)))


class _Computed(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Words that stand alone are docstrings."""
        words = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if words else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """What an error says is not computed with."""
        if isinstance(node.exc, ast.Call):
            return ast.Raise(node.exc.func, None)
        return node


def _cpp(text: str) -> str:
    kept = re.sub(
        r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda found: found[1] or " ", text, flags=re.DOTALL
    )
    # Lines stay lines for the preprocessor alone.
    return "\n".join(words for line in kept.splitlines() if (words := " ".join(line.split())))
