"""Distributions made of others: independent coordinates, mixtures, and images under an invertible map."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from estimators.distributions.counts import PROBABILITIES
from estimators.distributions.gamma import Gamma, InverseGamma
from estimators.distributions.normal import LogNormal, Normal
from estimators.distributions.parametric import Parametric, Shape, Support, as_points, as_shape, named, parameter, widen


@named
class Product(Parametric):
    """Independent parts X₁, X₂, …, side by side in one vector; a part is a number or a vector.

    >>> Product([Normal(0.0, 1.0), Gamma(2.0, 1.0)]).event_shape
    (2,)
    """

    marginals: Any
    event_ndim = 1

    def __post_init__(self):
        object.__setattr__(self, "marginals", tuple(self.marginals))
        if not self.marginals:
            raise ValueError("Product: give at least one marginal")
        _distributions("Product", self.marginals)
        _broadcast_together("Product", self.marginals)
        if wrong := [m for m in self.marginals if isinstance(m, Parametric) and m.event_ndim > 1]:
            raise ValueError(f"Product: {type(wrong[0]).__name__} is over matrices; marginals are numbers or vectors")

    @property
    def batch_shape(self):
        return np.broadcast_shapes(*(m.batch_shape for m in self.marginals))

    @property
    def event_shape(self):
        return (sum(math.prod(m.event_shape) for m in self.marginals),)

    @property
    def support(self) -> Support:
        return Support("vectors")

    def _parts(self, x: jax.Array) -> list[jax.Array]:
        ends = np.cumsum([math.prod(m.event_shape) for m in self.marginals])[:-1]
        parts = jnp.split(x, ends, axis=-1)
        return [part if m.event_ndim else part[..., 0] for m, part in zip(self.marginals, parts)]

    def log_prob(self, x):
        x = as_points(x)
        if x.shape[-1:] != self.event_shape:
            raise ValueError(f"Product: x has shape {x.shape}: its last axis must be {self.event_shape[0]}")
        rank = max(x.ndim - 1, len(self.batch_shape))
        parts = zip(self.marginals, self._parts(widen(x, rank, 1)))
        return sum((widen(m.log_prob(part), rank) for m, part in parts), jnp.zeros((1,) * rank, x.dtype))

    def sample(self, key: jax.Array, shape: Shape = ()) -> jax.Array:
        keys = jax.random.split(key, len(self.marginals))
        whole = [m.expand(self.batch_shape) for m in self.marginals]  # each has its own draws along every axis
        return self._joined([m.sample(k, shape) for m, k in zip(whole, keys)], as_shape(shape))

    def _joined(self, parts: list[jax.Array], shape: tuple[int, ...] = ()) -> jax.Array:
        """Values of the marginals [*shape, *batch, *event] side by side."""
        vectors = [part if m.event_ndim else part[..., None] for m, part in zip(self.marginals, parts)]
        full = (*shape, *self.batch_shape)
        wide = [widen(jnp.asarray(v, jnp.result_type(v, float)), len(full), 1) for v in vectors]
        return jnp.concatenate([jnp.broadcast_to(v, (*full, v.shape[-1])) for v in wide], axis=-1)

    @property
    def mean(self) -> jax.Array:
        return self._joined([m.mean for m in self.marginals])

    @property
    def variance(self) -> jax.Array:
        return self._joined([m.variance for m in self.marginals])

    def entropy(self) -> jax.Array:
        rank = len(self.batch_shape)
        total = sum((widen(m.entropy(), rank) for m in self.marginals), jnp.zeros((1,) * rank))
        return jnp.broadcast_to(total, self.batch_shape)

    def expand(self, shape):
        return Product([m.expand(shape) for m in self.marginals])

    def __getitem__(self, index):
        return Product([m.expand(self.batch_shape)[index] for m in self.marginals])


@named
class Mixture(Parametric):
    """Σ_k w_k P_k, w = weights [K], of distributions on one space; their parameters may be batches.

    >>> round(float(Mixture([0.5, 0.5], [Normal(-1.0, 1.0), Normal(1.0, 1.0)]).log_prob(0.0)), 4)
    -1.4189
    """

    weights: Any = parameter(PROBABILITIES)
    components: Any = ()

    def __post_init__(self):
        object.__setattr__(self, "components", tuple(self.components))
        super().__post_init__()
        _distributions("Mixture", self.components)
        if all(isinstance(c, Parametric) for c in self.components):
            self._check_components()
            _broadcast_together("Mixture", self.components)

    def _check_components(self):
        shapes = {c.event_shape for c in self.components}
        if len(shapes) != 1 or np.ndim(self.weights) != 1 or len(self.weights) != len(self.components):
            raise ValueError(
                f"Mixture: weights of shape {np.shape(self.weights)}, components of event shapes {sorted(shapes)}: "
                "give as many weights as components, all on one space"
            )
        if len(kinds := {c.support.kind for c in self.components}) > 1:
            raise ValueError(f"Mixture: components on {' and '.join(sorted(kinds))}: give components of one kind")

    @property
    def event_ndim(self):  # type: ignore[override]
        return self.components[0].event_ndim

    @property
    def batch_shape(self):
        return np.broadcast_shapes(*(c.batch_shape for c in self.components))

    @property
    def event_shape(self):
        return self.components[0].event_shape

    @property
    def support(self) -> Support:
        supports = [c.support for c in self.components]
        if len({s.kind for s in supports}) > 1:
            return Support("reals")
        low = np.min([np.min(np.asarray(s.low, float)) for s in supports])
        return Support(supports[0].kind, low, np.max([np.max(np.asarray(s.high, float)) for s in supports]))

    def log_prob(self, x):
        x = as_points(x)
        rank = max(x.ndim - self.event_ndim, len(self.batch_shape))
        logs = jnp.stack(jnp.broadcast_arrays(*(widen(c.log_prob(x), rank) for c in self.components)), axis=-1)
        return logsumexp(logs, axis=-1, b=widen(jnp.asarray(self.weights, logs.dtype), rank, 1))

    def sample(self, key: jax.Array, shape: Shape = ()) -> jax.Array:
        pick, *keys = jax.random.split(key, 1 + len(self.components))
        full = (*as_shape(shape), *self.batch_shape)
        k = jax.random.categorical(pick, jnp.log(jnp.asarray(self.weights)), shape=full)
        k = k.reshape(k.shape + (1,) * self.event_ndim)
        value = jnp.zeros((*full, *self.event_shape), jnp.result_type(float))
        for index, (component, own) in enumerate(zip(self.components, keys)):
            drawn = component.expand(self.batch_shape).sample(own, shape)
            value = jnp.where(k == index, drawn, value)
        return value

    @property
    def mean(self) -> jax.Array:
        return self._average([c.mean for c in self.components])

    @property
    def variance(self) -> jax.Array:
        means = [c.mean for c in self.components]
        inner = self._average([c.variance for c in self.components])
        return inner + self._average([m**2 for m in means]) - self._average(means) ** 2

    def _average(self, values: list[Any]) -> jax.Array:
        rank = len(self.batch_shape) + self.event_ndim
        total = sum(w * widen(v, rank) for w, v in zip(jnp.asarray(self.weights), values))
        return jnp.broadcast_to(jnp.asarray(total), (*self.batch_shape, *self.event_shape))

    def entropy(self) -> jax.Array:
        raise NotImplementedError(
            "Mixture: its entropy has no closed form; −log_prob(sample(key, n)).mean() estimates it, and "
            "`estimators.exact_values.entropies.entropy` integrates it on the line"
        )

    def expand(self, shape):
        return Mixture(self.weights, [c.expand(shape) for c in self.components])

    def __getitem__(self, index):
        return Mixture(self.weights, [c.expand(self.batch_shape)[index] for c in self.components])


@dataclass(frozen=True)
class Map:
    """An invertible map of numbers, or with `event_ndim` = 1 of vectors.

    Attributes:
        forward, inverse: written with jax.numpy; elementwise for numbers.
        log_slope: x → log |d forward/dx|, of vectors log |det|.
        parameters: what two maps made by one function may differ in; they are equal if functions and these are.
    """

    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]
    log_slope: Callable[[Any], Any]
    event_ndim: int = 0


EXP = Map(jnp.exp, jnp.log, lambda x: x)
RECIPROCAL = Map(lambda x: 1.0 / x, lambda y: 1.0 / y, lambda x: -2.0 * jnp.log(jnp.abs(x)))
TANH = Map(jnp.tanh, jnp.arctanh, lambda x: 2.0 * (math.log(2.0) - x - jax.nn.softplus(-2.0 * x)))
SIGMOID = Map(jax.nn.sigmoid, jax.scipy.special.logit, lambda x: -jax.nn.softplus(x) - jax.nn.softplus(-x))


@dataclass(frozen=True)
class Affine:
    """x → loc + scale · x, scale ≠ 0."""

    loc: float = 0.0
    scale: float = 1.0
    event_ndim: int = field(default=0, init=False)

    def __post_init__(self):
        numbers = all(isinstance(v, (int, float)) for v in (self.loc, self.scale))
        if not (numbers and math.isfinite(self.loc) and math.isfinite(self.scale) and self.scale):
            raise ValueError(f"Affine: loc = {self.loc}, scale = {self.scale}: both finite, and scale not 0")

    def forward(self, x):
        return self.loc + self.scale * x

    def inverse(self, y):
        return (y - self.loc) / self.scale

    def log_slope(self, x):
        return jnp.full_like(x, math.log(abs(self.scale)))


@dataclass(frozen=True)
class Power:
    """x → x^exponent of x > 0, exponent ≠ 0."""

    exponent: float
    event_ndim: int = field(default=0, init=False)
    lowest = 0.0

    def __post_init__(self):
        if not (isinstance(self.exponent, (int, float)) and math.isfinite(self.exponent) and self.exponent):
            raise ValueError(f"Power: exponent = {self.exponent}: a finite number other than 0")

    def forward(self, x):
        return x**self.exponent

    def inverse(self, y):
        return y ** (1.0 / self.exponent)

    def log_slope(self, x):
        return math.log(abs(self.exponent)) + (self.exponent - 1.0) * jnp.log(x)


@dataclass(frozen=True)
class NegativeLog:
    """x → −scale · log x of x > 0."""

    scale: float = 1.0
    event_ndim: int = field(default=0, init=False)
    lowest = 0.0

    def __post_init__(self):
        if not (isinstance(self.scale, (int, float)) and 0.0 < self.scale < math.inf):
            raise ValueError(f"NegativeLog: scale = {self.scale}: positive and finite")

    def forward(self, x):
        return -self.scale * jnp.log(x)

    def inverse(self, y):
        return jnp.exp(-y / self.scale)

    def log_slope(self, x):
        return math.log(self.scale) - jnp.log(x)


def _distributions(title: str, parts: Any) -> None:
    """Raise unless all are distributions (or what stands for one while jax maps over it)."""
    for part in parts:
        if isinstance(part, (int, float, str, list, tuple, np.ndarray, type, Map, Affine, Power, NegativeLog)):
            raise ValueError(f"{title}: {part!r} is no distribution; give one such as Normal(0.0, 1.0)")


def _broadcast_together(title: str, parts: Any) -> None:
    shapes = [part.batch_shape for part in parts if isinstance(part, Parametric)]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{title}: batches {', '.join(map(str, shapes))} do not broadcast") from None


def _static(default: Any = None) -> Any:
    return field(metadata={"static": True}, default=default)


@named
class Transformed(Parametric):
    """The law of map(X), X ~ base. No f-divergence between two images under one map differs from that of their bases.

    >>> round(float(Transformed(Normal(0.0, 1.0), EXP).log_prob(2.0)), 4) == round(float(LogNormal().log_prob(2.0)), 4)
    True
    """

    base: Any
    map: Any = _static()

    def __post_init__(self):
        _distributions("Transformed", (self.base,))
        if not all(callable(getattr(self.map, name, None)) for name in ("forward", "inverse", "log_slope")):
            raise ValueError(f"Transformed: map = {self.map!r}: give a Map, such as EXP, or Affine(loc, scale)")
        if isinstance(self.base, Parametric):
            self._check_base()

    def _check_base(self):
        if self.base.event_ndim < self.map.event_ndim:
            raise ValueError("Transformed: the map is of vectors, its base a distribution of numbers")
        if self.base.support.kind == "integers":
            raise ValueError("Transformed: the base is on integers, whose images have no density; map continuous ones")
        low = np.min(np.asarray(self.base.support.low, float))
        if low < getattr(self.map, "lowest", -math.inf) and not self.event_ndim:
            raise ValueError(
                f"Transformed: {type(self.map).__name__} maps numbers above 0, the base goes down to {low:g}"
            )

    @property
    def event_ndim(self):  # type: ignore[override]
        return self.base.event_ndim

    @property
    def batch_shape(self):
        return self.base.batch_shape

    @property
    def event_shape(self):
        return self.base.event_shape

    @property
    def support(self) -> Support:
        base = self.base.support
        if base.kind not in ("reals", "circle"):
            return base
        if self.map is RECIPROCAL and np.any((np.asarray(base.low) < 0.0) & (np.asarray(base.high) > 0.0)):
            return Support("reals")
        with jax.enable_x64(True):
            low, high = (np.asarray(self.map.forward(jnp.asarray(end, float))) for end in (base.low, base.high))
        known = [np.where(np.isnan(end), other, end) for end, other in ((low, -np.inf), (high, np.inf))]
        return Support("reals", np.minimum(*known), np.maximum(*known))

    def log_prob(self, y):
        y = as_points(y)
        x = self.map.inverse(y)
        held = jnp.isfinite(x) & jnp.isfinite(y)
        safe = jnp.where(held, x, 1.0)
        slope = self.map.log_slope(safe)
        axes = tuple(range(-1, -1 - self.event_ndim + self.map.event_ndim, -1))
        slope = jnp.sum(slope, axis=axes) if axes else slope
        inside = jnp.all(held, axis=tuple(range(-1, -1 - self.event_ndim, -1))) if self.event_ndim else held
        value = self.base.log_prob(safe) - slope
        return jnp.where(inside, value, -jnp.inf)

    def sample(self, key: jax.Array, shape: Shape = ()) -> jax.Array:
        return self.map.forward(self.base.sample(key, shape))

    def _affine(self) -> Affine:
        if not isinstance(self.map, Affine):
            raise NotImplementedError("Transformed: moments and entropy have a closed form under an Affine map only")
        return self.map

    @property
    def mean(self) -> jax.Array:
        return self._affine().forward(self.base.mean)

    @property
    def variance(self) -> jax.Array:
        return self._affine().scale ** 2 * self.base.variance

    def entropy(self) -> jax.Array:
        return self.base.entropy() + math.prod(self.event_shape) * math.log(abs(self._affine().scale))

    def expand(self, shape):
        return Transformed(self.base.expand(shape), self.map)

    def __getitem__(self, index):
        return Transformed(self.base[index], self.map)


def base_and_map(p: Any) -> tuple[Any, Any] | None:
    """(base, map) of which p is the image; None where p is none. p is one distribution, not a batch."""
    if isinstance(p, Transformed):
        return p.base, p.map
    if isinstance(p, LogNormal):
        return Normal(p.loc, p.scale), EXP
    if isinstance(p, InverseGamma):
        return Gamma(p.concentration, p.rate), RECIPROCAL
    return None
