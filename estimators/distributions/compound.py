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
from estimators.distributions.gamma import Exponential, Gamma, InverseGamma, Weibull
from estimators.distributions.location_scale import Gumbel
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
        return self._joined([m.sample(k, self._drawn(m, shape)) for m, k in zip(self.marginals, keys)], as_shape(shape))

    def _drawn(self, marginal: Any, shape: Shape) -> tuple[int, ...]:
        """Shape to draw so that a marginal of few batch axes has its own draws along the others."""
        extra = len(self.batch_shape) - len(marginal.batch_shape)
        return (*as_shape(shape), *self.batch_shape[:extra])

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
        if all(isinstance(c, Parametric) for c in self.components):
            self._check_components()

    def _check_components(self):
        shapes = {c.event_shape for c in self.components}
        if len(shapes) != 1 or np.ndim(self.weights) != 1 or len(self.weights) != len(self.components):
            raise ValueError(
                f"Mixture: weights of shape {np.shape(self.weights)}, components of event shapes {sorted(shapes)}: "
                "give as many weights as components, all on one space"
            )

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
            extra = len(self.batch_shape) - len(component.batch_shape)
            drawn = component.sample(own, (*as_shape(shape), *self.batch_shape[:extra]))
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
        if not (math.isfinite(self.loc) and math.isfinite(self.scale) and self.scale):
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

    def forward(self, x):
        return -self.scale * jnp.log(x)

    def inverse(self, y):
        return jnp.exp(-y / self.scale)

    def log_slope(self, x):
        return math.log(self.scale) - jnp.log(x)


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
        if isinstance(self.base, Parametric) and self.base.event_ndim < self.map.event_ndim:
            raise ValueError("Transformed: the map is of vectors, its base a distribution of numbers")

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
        if base.kind not in ("reals", "integers"):
            return base
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
    if isinstance(p, Weibull):
        k = float(p.concentration)
        return Exponential(float(p.scale) ** -k), Power(1.0 / k)
    if isinstance(p, Gumbel):
        scale = float(p.scale)
        return Exponential(math.exp(float(p.loc) / scale)), NegativeLog(scale)
    return None
