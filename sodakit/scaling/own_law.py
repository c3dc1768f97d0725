"""A law of one's own from a line of text: `E + A/N^a + B/(D^b N^c)`.

A sum of terms, each a coefficient times powers of columns. Exponents are names to be found, numbers, or sums of both:
`A/N^0.5`, `G N^(a-b)`. `N`, `D`, `C` and `M` (D/N) are the runs' own; any other column of the table may stand for them. That is
what the solver takes, with exact derivatives and a certificate; a law of another shape is refused.
"""

import ast
from collections.abc import Mapping

from sodakit.errors import ConfigError
from sodakit.scaling.formula import parse_formula
from sodakit.scaling.laws import Law

ONE = "1"
"""The exponent of powers that are numbers: it is held at 1."""
_VARIABLES = ("N", "D", "C", "M")
_Powers = dict[str, dict[str, float]]
"""Exponent → variable → how often it divides."""


def parse_law(text: str) -> Law:
    """The law that a line writes.

    Raises:
        ConfigError: not a sum of such terms; the message says what cannot be read.
    """
    try:
        tree = parse_formula(text)
    except SyntaxError as error:
        raise _refused(text, f"it is no formula ({error.msg})") from error
    bases = {
        _name(node.left)
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)
    }
    variables = {*_VARIABLES, *(b for b in bases if b)}
    terms: dict[str, Mapping[str, Mapping[str, float]]] = {}
    fixed: dict[str, float] = {}
    for node in _summands(tree, text):
        coefficient, value, powers = _term(node, variables, text)
        if coefficient is None:
            coefficient = f"term{len(terms) + 1}"
            fixed[coefficient] = value
        elif value != 1.0:
            raise _refused(text, f"{coefficient} has a number before it; a coefficient takes any value")
        if coefficient in terms:
            raise _refused(text, f"{coefficient} stands in two terms; give each a coefficient of its own")
        terms[coefficient] = powers
        if ONE in powers:
            fixed[ONE] = 1.0
    exponents = {x for powers in terms.values() for x in powers}
    both = (exponents & set(terms)) | ((exponents | set(terms)) & variables)
    if both:
        raise _refused(text, f"{', '.join(sorted(both))} is a coefficient and an exponent or column at once")
    if not exponents - {ONE}:
        raise _refused(text, "it has no exponent to be found")
    return Law(text.strip(), terms, fixed)


def _summands(node: ast.expr, text: str) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _summands(node.left, text) + _summands(node.right, text)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        raise _refused(text, "a term is subtracted; coefficients are positive")
    return [node]


def _term(node: ast.expr, variables: set[str], text: str) -> tuple[str | None, float, _Powers]:
    """The coefficient's name (None where it is a number), a number before it, and the powers of a term."""
    names: list[str] = []
    value = 1.0
    powers: _Powers = {}

    def walk(part: ast.expr, sign: int) -> None:
        nonlocal value
        if isinstance(part, ast.BinOp) and isinstance(part.op, (ast.Mult, ast.Div)):
            walk(part.left, sign)
            walk(part.right, sign if isinstance(part.op, ast.Mult) else -sign)
        elif isinstance(part, ast.Constant) and isinstance(part.value, (int, float)):
            value *= float(part.value) ** sign
        elif (name := _name(part)) and name in variables:
            add(name, {ONE: 1.0}, sign)
        elif name:
            if sign < 0:
                raise _refused(text, f"{name} divides; a coefficient multiplies")
            names.append(name)
        elif isinstance(part, ast.BinOp) and isinstance(part.op, ast.Pow) and (base := _name(part.left)):
            add(base, _linear(part.right, text), sign)
        else:
            raise _refused(text, f"{ast.unparse(part).replace('**', '^')!r} is no power of a column")

    def add(variable: str, exponents: dict[str, float], sign: int) -> None:
        for exponent, factor in exponents.items():
            held = powers.setdefault(exponent, {})
            for base, power in ({"D": 1.0, "N": -1.0} if variable == "M" else {variable: 1.0}).items():
                held[base] = held.get(base, 0.0) - sign * factor * power

    walk(node, 1)
    if len(names) > 1:
        raise _refused(text, f"{' and '.join(names)} stand in one term, and only their product could be told")
    return (names[0] if names else None), value, powers


def _linear(node: ast.expr, text: str) -> dict[str, float]:
    """An exponent as numbers times names."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return {ONE: float(node.value)}
    if name := _name(node):
        return {name: 1.0}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        sign = -1.0 if isinstance(node.op, ast.USub) else 1.0
        return {k: sign * v for k, v in _linear(node.operand, text).items()}
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        left, right = _linear(node.left, text), _linear(node.right, text)
        sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
        return {k: left.get(k, 0.0) + sign * right.get(k, 0.0) for k in {**left, **right}}
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        left, right = _linear(node.left, text), _linear(node.right, text)
        if set(right) == {ONE}:
            factor = right[ONE] if isinstance(node.op, ast.Mult) else 1 / right[ONE]
            return {k: v * factor for k, v in left.items()}
        if set(left) == {ONE} and isinstance(node.op, ast.Mult):
            return {k: v * left[ONE] for k, v in right.items()}
    raise _refused(text, f"the exponent {ast.unparse(node)!r} is no sum of names and numbers")


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _refused(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"The law {text!r} cannot be fitted: {why}. Write a sum of terms, each a coefficient times powers of N, D, C, M or "
        "columns, for example E + A/N^a + B/(D^b N^c)."
    )
