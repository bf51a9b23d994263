"""Exponential families: p_θ(x) = h(x) exp(⟨θ, T(x)⟩ − F(θ)).

A family states its natural parameters θ (a tuple of arrays), its log-partition F, its statistics T and its base measure
log h. What follows from F alone, such as every divergence that is an integral ∫ p^α q^{1−α}, stands in
`estimators.exact_values.exponential_families`.

Source: Wainwright, Jordan 2008; Nielsen, Garcia 2009, for the decompositions.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, loggamma
from jax.typing import ArrayLike

from estimators.distributions.parametric import Parametric, as_points, is_concrete

Natural = tuple[jax.Array, ...]


def log_gamma(z: jax.Array) -> jax.Array:
    """log Γ(z); of complex z the branch that is continuous from the positive numbers."""
    return loggamma(z) if jnp.iscomplexobj(z) else gammaln(z)


class ExponentialFamily(Parametric):
    """A distribution of an exponential family. A family adds `_natural`, `_log_partition`, `_statistics`, `_log_base`,
    `_from_natural` and, where not every θ is allowed, `_in_domain`.

    `log_partition` holds for complex θ too, which is what laws of log-ratios are computed from.
    """

    natural_ndims: ClassVar[tuple[int, ...]] = (0,)  # how many last axes of each part of θ belong to one distribution
    complex_ready: ClassVar[bool] = True  # whether `log_partition` takes complex θ, on one branch

    def natural_parameters(self) -> Natural:
        """θ, a tuple of [*batch, …]."""
        return self._natural(*self._ranked())

    def log_partition(self, theta: Natural) -> jax.Array:
        """F(θ) = log ∫ h exp⟨θ, T⟩, [*batch]."""
        return self._log_partition(*theta)

    def statistics(self, x: ArrayLike) -> Natural:
        """T(x), a tuple with the parts of θ."""
        return self._statistics(as_points(x))

    def log_base(self, x: ArrayLike) -> jax.Array:
        """log h(x)."""
        return self._log_base(as_points(x))

    def from_natural(self, theta: Natural) -> Any:
        """The distribution of this family, with the same carrier, at θ."""
        return self._from_natural(*theta)

    def in_domain(self, theta: Natural) -> jax.Array:
        """Whether F(θ) is finite, [*batch]."""
        return jnp.asarray(self._in_domain(*theta))

    def mean_parameters(self) -> Natural:
        """∇F(θ) = E T(X), a tuple of [*batch, …]."""
        return jax.grad(lambda theta: jnp.sum(self.log_partition(theta)))(self.natural_parameters())

    def carrier(self) -> tuple[Any, ...]:
        """What T and h depend on; two distributions are of one family only where it is equal."""
        return ()

    def same_family(self, other: Any) -> bool:
        """Whether `other` has the same T and h; False where traced carriers cannot be compared."""
        if type(self) is not type(other) or self.event_shape != other.event_shape:
            return False
        pairs = list(zip(self.carrier(), other.carrier()))
        return all(a is b or (is_concrete(a) and is_concrete(b) and np.array_equal(a, b)) for a, b in pairs)

    def _natural(self, *parameters: Any) -> Natural:
        raise NotImplementedError

    def _log_partition(self, *theta: Any) -> jax.Array:
        raise NotImplementedError

    def _statistics(self, x: jax.Array) -> Natural:
        raise NotImplementedError

    def _log_base(self, x: jax.Array) -> jax.Array:
        return jnp.zeros_like(x)

    def _from_natural(self, *theta: Any) -> Any:
        raise NotImplementedError

    def _in_domain(self, *theta: Any) -> Any:
        return jnp.ones(jnp.shape(theta[0])[: jnp.ndim(theta[0]) - self.natural_ndims[0]], bool)
