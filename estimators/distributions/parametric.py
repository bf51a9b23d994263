"""What a named distribution is: parameters with their domains, batches, and the methods that every one offers.

    dist.Gamma(2.0, 1.0)                         one distribution
    dist.Normal(0.0, jnp.ones((3, 2)))           a batch of [3, 2]: parameters broadcast
    p.sample(key, 5), p.log_prob(x)              [5, *batch, *event], [..., *batch]
    p.mean, p.variance, p.support, p.entropy()   [*batch, *event], a Support, [*batch] nats

They are pytrees, so jit, grad and vmap go through them. Parameters are checked when they are made; traced ones cannot
be. Where one is out of its domain, log densities are −∞, all other results ∞, and gradients 0: never NaN. Python and
NumPy numbers keep their 64 bits until they are used: exact values lose nothing, samples and densities are float32
unless x64 is on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Shape = int | Sequence[int]
Kind = Literal["reals", "integers", "circle", "vectors", "simplex", "positive definite"]


class Support(NamedTuple):
    """Where a distribution has its mass: numbers or integers from low to high, or a set named by its kind.

    `low` and `high` belong to reals, integers and the circle, and are arrays where a batch differs.
    """

    kind: Kind
    low: Any = -math.inf
    high: Any = math.inf


class Domain(NamedTuple):
    """What a parameter may be.

    Attributes:
        words: after "it must be".
        holds: v [..., *event] → whether each number of v, or each event, is of the domain; of NumPy or traced arrays.
        ndim: how many last axes of the parameter belong to one distribution.
        safe: v → a value of the domain, which stands in for a traced one that is not.
    """

    words: str
    holds: Callable[[Any], Any]
    ndim: int = 0
    safe: Callable[[Any], Any] = jnp.ones_like

    def valid(self, v: Any) -> Any:
        """Whether v is of the domain, [...] without the axes of an event."""
        held = self.holds(v)
        return held.all(axis=tuple(range(-self.ndim, 0))) if self.ndim and held.ndim == v.ndim else held


SYMMETRIC_TOLERANCE = 1e-6  # relative; a covariance computed in float32 is symmetric to about 1e-7


def _finite(v: Any) -> Any:
    return abs(v) < np.inf


def _positive(v: Any) -> Any:
    return (v > 0.0) & (v < np.inf)


def _positive_definite(v: Any) -> Any:
    module = np if isinstance(v, np.ndarray) else jnp
    if v.shape[-1] != v.shape[-2]:
        return np.zeros((), bool)
    transposed = module.swapaxes(v, -1, -2)
    gap, size = (abs(each).max(axis=(-2, -1)) for each in (v - transposed, v))
    whole = module.where(_finite(size)[..., None, None], v, identity_like(v))
    least = module.linalg.eigvalsh(0.5 * (whole + module.swapaxes(whole, -1, -2)))[..., 0]
    return _finite(size) & (gap <= SYMMETRIC_TOLERANCE * size) & (least > 0.0)


def identity_like(v: Any) -> Any:
    """I of the shape of v [..., d, d]."""
    return np.broadcast_to(np.eye(v.shape[-1], dtype=v.dtype), v.shape)


REAL = Domain("finite", _finite, 0, jnp.zeros_like)
POSITIVE = Domain("positive and finite", _positive)
NOT_NEGATIVE = Domain("finite and not negative", lambda v: (v >= 0.0) & (v < np.inf))
SHARE = Domain("between 0 and 1", lambda v: (v >= 0.0) & (v <= 1.0))
COUNT = Domain("a whole number, at least 1", lambda v: (v >= 1.0) & (v == v.round()))
VECTOR = Domain("finite", _finite, 1, jnp.zeros_like)
POSITIVE_VECTOR = Domain("positive and finite", _positive, 1)
POSITIVE_DEFINITE = Domain("symmetric and positive definite, [d, d]", _positive_definite, 2, identity_like)

Class = TypeVar("Class")
REQUIRED: Any = object()


def parameter(domain: Domain, *, default: Any = REQUIRED) -> Any:
    """A field that holds numbers of this domain."""
    chosen = {} if default is REQUIRED else {"default": default}
    return field(metadata={"domain": domain}, **chosen)


@dataclass_transform(frozen_default=True, field_specifiers=(parameter, field))
def named(cls: type[Class]) -> type[Class]:
    """A frozen dataclass whose parameters are the leaves of a pytree; a distribution compares by identity."""
    made = dataclass(frozen=True, eq=False)(cls)
    data = [each.name for each in fields(made) if "static" not in each.metadata]  # type: ignore[arg-type]
    static = [each.name for each in fields(made) if "static" in each.metadata]  # type: ignore[arg-type]
    return jax.tree_util.register_dataclass(made, data, static)


def is_concrete(value: Any) -> bool:
    """Whether `value` holds numbers that can be looked at: not traced, nor a placeholder of a transformation."""
    return isinstance(value, (int, float, str, complex, np.ndarray, np.generic, list, tuple)) or (
        isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer)
    )


def widen(value: ArrayLike, rank: int, ndim: int = 0) -> jax.Array:
    """`value` with axes of length 1 in front of its batch axes, until these number `rank`."""
    array = jnp.asarray(value)
    return jnp.expand_dims(array, tuple(range(rank + ndim - array.ndim)))


def _short(array: np.ndarray) -> str:
    if array.ndim == 0:
        return f"{array[()]:g}"
    return np.array2string(array, precision=6, threshold=12, edgeitems=2, separator=", ").replace("\n", "")


def as_shape(shape: Shape) -> tuple[int, ...]:
    return (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)


class Parametric:
    """A distribution with parameters. A family gives `_sample`, `_log_prob`, `_mean`, `_variance`, `_entropy`.

    Each takes the parameters in the order of the fields, all with as many batch axes as the batch (or the points) have,
    so that they broadcast.
    """

    event_ndim: ClassVar[int] = 0

    def __post_init__(self):
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if domain := each.metadata.get("domain"):
                object.__setattr__(self, each.name, self._checked(each.name, value, domain))
        if all(value is None or is_concrete(value) for value in self.parameters().values()):
            self._check_shapes()

    def _checked(self, name: str, value: Any, domain: Domain) -> Any:
        """The parameter as an array, its numbers tested if they are known."""
        if isinstance(value, (Parametric, type)):
            raise ValueError(f"{self._title()}: {name} = {value!r} is no array of numbers")
        if value is None or not is_concrete(value):
            return value
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" and not isinstance(value, jax.Array):
            raise ValueError(f"{self._title()}: {name} = {value!r} is no array of numbers")
        if array.ndim < domain.ndim:
            need = "a vector" if domain.ndim == 1 else "a matrix"
            raise ValueError(f"{self._title()}: {name} has shape {array.shape}: give at least {need}")
        holds = np.asarray(domain.holds(np.asarray(array, np.float64)))
        if not holds.all():
            elementwise = holds.shape == array.shape and array.size > 1
            at = int(np.argmin(holds))
            wrong = f"{name}[{at}] = {array.ravel()[at]:g}" if elementwise else f"{name} = {_short(array)}"
            raise ValueError(f"{self._title()}: {wrong}: it must be {domain.words}")
        return value if isinstance(value, jax.Array) else array.astype(np.float64)

    def _title(self) -> str:
        return type(self).__name__

    def _check_shapes(self) -> None:
        """Raise where parameters do not broadcast."""
        try:
            np.broadcast_shapes(*self._batch_shapes())
        except ValueError:
            shapes = {name: np.shape(value) for name, value in self.parameters().items() if value is not None}
            told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ValueError(f"{self._title()}: shapes do not broadcast: {told}") from None

    def parameters(self) -> dict[str, Any]:
        """name → value, in the order of the fields; None for one that is not given."""
        return {each.name: getattr(self, each.name) for each in fields(self) if "domain" in each.metadata}  # type: ignore[arg-type]

    def _batch_shapes(self) -> list[tuple[int, ...]]:
        """The batch shape of each parameter."""
        given = [
            (np.shape(getattr(self, each.name)), each.metadata["domain"].ndim)
            for each in fields(self)  # type: ignore[arg-type]
            if "domain" in each.metadata and getattr(self, each.name) is not None
        ]
        return [shape[: len(shape) - ndim] for shape, ndim in given]

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(*self._batch_shapes())

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point: () for numbers, (d,) for vectors, (d, d) for matrices."""
        return ()

    def _ranked(self, rank: int | None = None) -> list[jax.Array | None]:
        """The parameters, each with `rank` batch axes (those of the batch if None)."""
        rank = len(self.batch_shape) if rank is None else rank
        return [
            None
            if getattr(self, each.name) is None
            else widen(_in(domain, getattr(self, each.name)), rank, domain.ndim)
            for each in fields(self)  # type: ignore[arg-type]
            if (domain := each.metadata.get("domain"))
        ]

    def _valid(self, rank: int) -> Any:
        """Whether the traced parameters, which were not looked at before, are in their domains; `rank` axes, or ()."""
        held: Any = np.True_
        for each in fields(self):  # type: ignore[arg-type]
            value, domain = getattr(self, each.name), each.metadata.get("domain")
            if domain and value is not None and not is_concrete(value):
                held = held & widen(domain.valid(jnp.asarray(value)), rank)
        return held

    def log_prob(self, x: ArrayLike) -> jax.Array:
        """log p(x), nats, at x [..., *batch, *event]; −∞ outside the support."""
        x = as_points(x)
        rank = max(x.ndim - self.event_ndim, len(self.batch_shape))
        value = self._log_prob(widen(x, rank, self.event_ndim), *self._ranked(rank))
        return jnp.where(self._valid(rank), value, -jnp.inf)

    def sample(self, key: jax.Array, shape: Shape = ()) -> jax.Array:
        """Independent points [*shape, *batch, *event]."""
        full = (*as_shape(shape), *self.batch_shape)
        return self._sample(key, full, *self._ranked(len(full)))

    @property
    def mean(self) -> jax.Array:
        """E X, [*batch, *event]; NaN where it does not exist."""
        return self._whole(self._mean(*self._ranked()), self.event_shape)

    @property
    def variance(self) -> jax.Array:
        """E (X − E X)² of each coordinate, [*batch, *event]; ∞ or NaN where it does not exist."""
        return self._whole(self._variance(*self._ranked()), self.event_shape)

    def entropy(self) -> jax.Array:
        """−E log p(X), [*batch], nats; of densities the differential entropy, which may be negative."""
        return self._whole(self._entropy(*self._ranked()), ())

    def _whole(self, value: jax.Array, event: tuple[int, ...]) -> jax.Array:
        """`value` over the whole batch, ∞ where a traced parameter is out of its domain."""
        held = jnp.asarray(self._valid(len(self.batch_shape)))
        held = held.reshape(held.shape + (1,) * len(event)) if held.ndim else held
        return jnp.where(held, jnp.broadcast_to(value, (*self.batch_shape, *event)), jnp.inf)

    @property
    def support(self) -> Support:
        return Support("reals")

    def expand(self, shape: Sequence[int]) -> Any:
        """The same distribution as a batch of this shape."""
        return self._replaced(
            lambda value, ndim: _broadcast(value, (*shape, *np.shape(value)[np.ndim(value) - ndim :]))
        )

    def __getitem__(self, index: Any) -> Any:
        """The distribution at an index of the batch, as NumPy indexes."""
        whole = Parametric.expand(self, self.batch_shape)
        return whole._replaced(lambda value, ndim: value[index])

    def _replaced(self, change: Callable[[Any, int], Any]) -> Any:
        """This with change(value, its event axes) of each parameter."""
        made = {each.name: getattr(self, each.name) for each in fields(self)}  # type: ignore[arg-type]
        for each in fields(self):  # type: ignore[arg-type]
            if (domain := each.metadata.get("domain")) and made[each.name] is not None:
                made[each.name] = change(made[each.name], domain.ndim)
        return type(self)(**made)

    # What a family gives; parameters broadcast.
    def _log_prob(self, x: jax.Array, *parameters: Any) -> jax.Array:
        raise NotImplementedError

    def _sample(self, key: jax.Array, shape: tuple[int, ...], *parameters: Any) -> jax.Array:
        raise NotImplementedError

    def _mean(self, *parameters: Any) -> jax.Array:
        raise NotImplementedError

    def _variance(self, *parameters: Any) -> jax.Array:
        raise NotImplementedError

    def _entropy(self, *parameters: Any) -> jax.Array:
        raise NotImplementedError


def _in(domain: Domain, value: Any) -> jax.Array:
    """`value`, where it is traced with what is out of the domain replaced: gradients stay finite."""
    if is_concrete(value):
        return jnp.asarray(value)
    array = jnp.asarray(value)
    held = domain.valid(array)
    return jnp.where(held.reshape(held.shape + (1,) * domain.ndim), array, domain.safe(array))


def _broadcast(value: Any, shape: tuple[int, ...]) -> Any:
    return jnp.broadcast_to(value, shape) if isinstance(value, jax.Array) else np.broadcast_to(value, shape)


def as_points(x: ArrayLike) -> jax.Array:
    """x as floats, in their own precision; integers in the one that is on."""
    return jnp.asarray(x, jnp.result_type(x, float))


def diagonal_matrix(v: jax.Array) -> jax.Array:
    """[..., d] on the diagonal of [..., d, d]."""
    d = v.shape[-1]
    return v[..., None] * jnp.eye(d, dtype=v.dtype).reshape((1,) * (v.ndim - 1) + (d, d))


def precision() -> Any:
    """The float type that is on."""
    return jnp.result_type(float)


def within(x: jax.Array, holds: Any, value: Callable[[jax.Array], jax.Array], safe: float) -> jax.Array:
    """value(x) where `holds`, −∞ elsewhere, with gradient 0 there instead of NaN."""
    return jnp.where(holds, value(jnp.where(holds, x, safe)), -jnp.inf)
