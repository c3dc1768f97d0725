"""Arithmetic from a line of text: `6*N*D + 12*layers*width*context*D`. Nothing else in a line is ever carried out."""

import ast
import operator
import re
from collections.abc import Callable

import numpy as np

from sodakit.errors import ConfigError

HOFFMANN = "3 * D * (4 vocab_size width + layers * (8 width query_width + 4 width ffn_width + context * (4 query_width + 3 heads)))"
"""Training FLOPs as Hoffmann et al. 2022 count them (arXiv 2203.15556, appendix F): embeddings as products, a feed-forward
of two matrices without a gate, the full square of attention with its softmax, and a backward pass of twice the forward one."""
FORMULAS = {"hoffmann": HOFFMANN}
"""Formulas of C by name."""

_OPERATORS: dict[type, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def is_formula(convention: str) -> bool:
    """Whether a convention for C is a formula, by name or written out."""
    return convention in FORMULAS or not re.fullmatch(r"[\w/-]+", convention)


def parse_formula(text: str) -> ast.expr:
    """What a line says, with `^` for powers, `·` or a space for products.

    Raises:
        SyntaxError: it is no formula.
    """
    written = re.sub(r"\s+", " ", text.strip()).replace("^", "**").replace("·", "*")
    written = re.sub(r"(?<=[\w)]) (?=[A-Za-z_(])", " * ", written)
    return ast.parse(written, mode="eval").body


def evaluate(text: str, values: Callable[[str], np.ndarray]) -> np.ndarray:
    """value_R of a formula over columns.

    Args:
        values: a column by its name.
    Raises:
        ConfigError: it is no arithmetic, or over a column that is not there.
    """
    try:
        tree = parse_formula(text)
    except SyntaxError as error:
        raise _refused(text, error.msg) from error

    def read(node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](read(node.left), read(node.right))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -read(node.operand)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return np.array(float(node.value))  # a power of numbers in floats: it ends, however large
        if isinstance(node, ast.Name):
            return values(node.id)
        raise _refused(text, f"{ast.unparse(node).replace('**', '^')!r} is no sum, product or power")

    with np.errstate(all="ignore"):
        return np.asarray(read(tree), float)


def _refused(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"The formula {text!r} cannot be computed: {why}. Write sums, products and powers of numbers and columns, for "
        "example 6*N*D + 12*layers*width*context*D."
    )
