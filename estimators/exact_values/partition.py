"""Two laws that are known on each piece of a partition: values of positive probability, and densities on the line.

    D_f(P‖Q) = Σ_v q_v f(p_v/q_v) + Σ_k ∫ q_k(s) f(p_k(s)/q_k(s)) ds,

v over the values and k over the lines. The p_k and q_k hold the weight of their piece: ∫ p_k is P's probability of the
k-th piece, and all weights of a law add up to 1. So laws with an atom beside a density are exact, and so are laws that
have categories beside numbers. A line may stand for a piece of ℝ^d on which the log-ratio is a function of one number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.exact_values.quadrature import integrate
from estimators.exact_values.truth import Densities

CLOSE = 1e-8  # to 1, the weights of a law together


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """P and Q on the same pieces.

    Attributes:
        atoms_p, atoms_q: [k] probabilities of the values under P and under Q.
        lines: unnormalised log densities of P and Q, with their support.

    >>> coins = Partition(atoms_p=np.array([0.5, 0.5]), atoms_q=np.array([0.25, 0.75]))
    >>> round(coins.masses[0], 9)
    1.0
    """

    atoms_p: np.ndarray = field(default_factory=lambda: np.zeros(0))
    atoms_q: np.ndarray = field(default_factory=lambda: np.zeros(0))
    lines: tuple[Densities, ...] = ()

    @cached_property
    def masses(self) -> tuple[float, float]:
        """The total weight of P, and that of Q: 1 each, but for rounding."""

        def of(atoms: np.ndarray, at: int) -> float:
            return float(atoms.sum()) + sum(integrate(_exp_of(line[at]), line.support) for line in self.lines)

        return of(self.atoms_p, 0), of(self.atoms_q, 1)


def _exp_of(log_density):
    return lambda s: jnp.exp(jnp.asarray(log_density(s)))


def of_partition(partition: Partition, d: FDivergence) -> float:
    """D_f(P‖Q), nats, by the sum over the values and quadrature on the lines; inf where it is infinite.

    Raises:
        ValueError: weights of P or of Q that do not add up to 1.
    """
    for name, total in zip("PQ", partition.masses):
        if abs(total - 1.0) > CLOSE:
            raise ValueError(f"the weights of {name} add up to {total:.9g}: they must add up to 1 over all pieces")
    cost = log_perspective(d)
    with jax.enable_x64(True), np.errstate(divide="ignore"):
        logs = (jnp.asarray(np.log(np.asarray(atoms, float))) for atoms in (partition.atoms_p, partition.atoms_q))
        on_atoms = float(jnp.sum(jnp.exp(cost(*logs))))

    def integrand(line: Densities):
        return lambda s: jnp.exp(cost(jnp.asarray(line.log_p(s)), jnp.asarray(line.log_q(s))))

    return d.value_at_one + on_atoms + sum(integrate(integrand(line), line.support) for line in partition.lines)
