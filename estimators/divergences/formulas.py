"""A divergence from a formula of u = p/q that a person writes: "(u - 1)**2 / (u + 1)", "max(u, 1) - 1".

    numbers, u, pi, + - * / and ** or ^, brackets, and FUNCTIONS

The text is parsed and its parts are looked up; nothing in it is executed.
"""

import ast
import difflib
import math
import warnings
from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp

from estimators.divergences.generator import FDivergence, as_float, from_generator

FUNCTIONS: dict[str, tuple[int, Callable[..., jax.Array]]] = {
    "log": (1, jnp.log),
    "log1p": (1, jnp.log1p),
    "exp": (1, jnp.exp),
    "expm1": (1, jnp.expm1),
    "sqrt": (1, jnp.sqrt),
    "abs": (1, jnp.abs),
    "tanh": (1, jnp.tanh),
    "max": (2, jnp.maximum),
    "min": (2, jnp.minimum),
}
"""Name → (number of arguments, function)."""

OPERATORS: dict[type, Callable[..., jax.Array]] = {
    ast.Add: jnp.add,
    ast.Sub: jnp.subtract,
    ast.Mult: jnp.multiply,
    ast.Div: jnp.divide,
}
SIGNS = str.maketrans({"^": "**", "−": "-", "·": "*", "²": "**2", "³": "**3"})
"""What people also write."""
LONGEST = 200  # characters: four times the longest formula of the table, and compiled within seconds
POWERS = 16  # whole powers up to which products are exact to rounding, as they stand in formulas; others by logarithm
MADE = 256  # formulas whose divergence is kept, more than a process meets

Term = Callable[[jax.Array], jax.Array]


def formula(text: str) -> FDivergence:
    """The f-divergence whose generator f(u) `text` is; its name is the text as Python would write it.

    Limits f(0⁺) and f'(∞) are estimated, and kinks are found. Formulas that Python would write alike are one object.

    Raises:
        ValueError: text that is no formula of u, or whose f is no generator: not finite, not convex, f(1) ≠ 0.

    >>> formula("(u-1)^2").name
    '(u - 1) ** 2'
    >>> float(formula("abs(u - 1) / 2").upper_limit())
    1.0
    """
    if len(text) > LONGEST:
        raise ValueError(f"a formula of {len(text)} characters: write it with at most {LONGEST}, or use from_generator")
    wrong = ValueError(f"{text[:60]!r} is no formula of u, such as (u - 1)**2; check its brackets and operators")
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd literals, which are refused below
            tree = ast.parse(text.strip().translate(SIGNS), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a ValueError: zero bytes, halves of a character
        raise wrong from None
    try:
        return _made(ast.unparse(tree))
    except RecursionError:
        raise wrong from None


@lru_cache(MADE)
def _made(name: str) -> FDivergence:
    """The divergence of a formula as Python would write it. Raises ValueError."""
    f = _term(ast.parse(name, mode="eval").body)

    def generator(u):
        u = as_float(u)
        return f(u) + jnp.zeros_like(u)

    return from_generator(name, generator, source="a formula", smooth=None, formula=name)


def _term(node: ast.expr) -> Term:
    """A part of the formula as a function of u. Raises ValueError for what is not in the grammar."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _constant(number)
        case ast.Name(id="u"):
            return lambda u: u
        case ast.Name(id="pi"):
            return _constant(math.pi)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _term(operand)
            return lambda u: -inner(u)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _term(operand)
        case ast.BinOp(op=ast.Pow(), left=base, right=ast.Constant(value=int(whole))) if 0 <= whole <= POWERS:
            of = _term(base)
            return lambda u: of(u) ** whole
        case ast.BinOp(op=ast.Pow(), left=base, right=power):
            of, to = _term(base), _term(power)
            return lambda u: jnp.power(of(u), to(u))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in OPERATORS:
            join, first, second = OPERATORS[type(op)], _term(left), _term(right)
            return lambda u: join(first(u), second(u))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
            return _call(name, [_term(each) for each in arguments])
        case ast.Name(id=name):
            raise ValueError(f"{name!r} in a formula: the only letters are u, the ratio p/q, and pi")
    raise ValueError(f"{ast.unparse(node)[:40]!r} in a formula: it has numbers, u, pi, + - * / **, {_listed()}")


def _constant(number: float) -> Term:
    try:
        value = float(number)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("a number in a formula is too large; write one that a float holds")
    return lambda u: jnp.asarray(value, u.dtype)


def _call(name: str, arguments: list[Term]) -> Term:
    if name not in FUNCTIONS:
        near = difflib.get_close_matches(name, FUNCTIONS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"unknown function {name!r} in a formula: {hint}there are {_listed()}")
    count, function = FUNCTIONS[name]
    if len(arguments) != count:
        raise ValueError(f"{name} in a formula takes {count} argument{'s' * (count > 1)}, not {len(arguments)}")
    return lambda u: function(*(each(u) for each in arguments))


def _listed() -> str:
    return ", ".join(FUNCTIONS)
