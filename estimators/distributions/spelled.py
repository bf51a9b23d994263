"""A named distribution from how a person writes it: "gamma(2, 1)", "mixture([0.5, 0.5], [normal(-1), normal(1)])"."""

from __future__ import annotations

import ast
import difflib
import re
from typing import Any

from estimators import distributions as dist

NAMES = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): name for name in dist.__all__ if name != "Map"}
"""What is written, with or without its underscores → the name in this room. Maps are written as distributions are."""


def spelled(text: str) -> Any:
    """The distribution that `text` names, with numbers, lists and keywords as its arguments.

    Raises:
        ValueError: text that is no such call, an unknown name (it offers the nearest), or parameters that are refused.

    >>> spelled("student_t(3, loc=1)").event_shape
    ()
    """
    wrong = ValueError(f"{text[:80]!r} is not written as name(numbers), such as gamma(2, 1)")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a ValueError: zero bytes, halves of a character
        raise wrong from None
    try:
        made = _value(tree.body, text)
    except RecursionError:
        raise wrong from None
    if not hasattr(made, "log_prob"):
        raise ValueError(f"{text!r} is no distribution; write one as gamma(2, 1)")
    return made


def _value(node: ast.expr, text: str) -> Any:
    """What a part of the text stands for. Nothing is executed: calls are of NAMES alone."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            number = _value(operand, text)
            if isinstance(number, (int, float)):
                return -number
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, text)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, text) for part in parts]
        case ast.Name(id=name):
            found = _named(name, text)
            return _made(name, [], {}, text) if isinstance(found, type) else found
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
            named = {keyword.arg: _value(keyword.value, text) for keyword in keywords}
            if len(named) < len(keywords):
                raise ValueError(f"{text!r}: a parameter of {name} is given twice")
            return _made(name, [_value(argument, text) for argument in arguments], named, text)
    raise ValueError(f"{ast.unparse(node)!r} in {text!r} is neither a number, a list, nor a distribution")


def _named(name: str, text: str) -> Any:
    bare = {each.replace("_", ""): there for each, there in NAMES.items()}
    key = name.lower().replace("_", "")
    if key not in bare:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"unknown distribution {name!r} in {text!r}: {hint}choose from {', '.join(sorted(NAMES))}")
    return getattr(dist, bare[key])


def _made(name: str, arguments: list[Any], keywords: dict[Any, Any], text: str) -> Any:
    kind = _named(name, text)
    if not isinstance(kind, type):
        raise ValueError(f"{text!r}: {name} takes no numbers; write it without brackets")
    try:
        return kind(*arguments, **keywords)
    except OverflowError as error:
        raise ValueError(f"{text[:80]!r}: {error}; write smaller numbers") from None
    except TypeError as error:
        words = str(error).removeprefix(f"{kind.__name__}.__init__() ").replace("positional arguments", "numbers")
        raise ValueError(f"{text!r}: {name} {words}") from None
