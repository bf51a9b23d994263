"""f-divergence variational inference: a family q_θ fitted to an unnormalised density p̃ = Z p. Nats.

Minimised is D_f(P‖Q_θ) = E_q[f(r)], r = p/q, for any divergence of the table, or D_f(Q_θ‖P) by its reversal. With
w = p̃/q, f̃(r) = f(r) − f(1) − f'(1)(r − 1) and φ(r) = f(r) − r f'(r), whose slope is −r f''(r), three estimates of its
gradient from samples x_i = T(θ, ε_i):

    reparameterised          ∇ (1/n) Σ f̃(r(x_i; θ)): through the sample and through log q_θ
    score                    1/(n − 1) Σ (φ(r_i) − mean φ) ∇ log q_θ(x_i), x_i fixed
    doubly_reparameterised   −(1/n) Σ k_i ∂_x log w(x_i) · ∂T(θ, ε_i)/∂θ,  k = r² f''(r): through the sample alone

The third follows from the second by E_q[φ ∂ log q] = E_ε[∂_x φ · ∂T/∂θ] (Tucker, Lawson, Gu, Maddison 2019). It is a
weighted mean of gradients of KL(Q‖P), and the weight k is all that a divergence decides: 1 for reverse_kl, where the
form is sticking the landing (Roeder, Wu, Duvenaud 2017), r for kl, r^α for alpha(α), 2r² for pearson, ½r/(1 + r) for
js. At q = p none of the three has a variance (for the first, f̃ in place of f sees to that).

`estimator="auto"` takes the third wherever f is smooth. Near the target in ten dimensions its standard deviation is a
third of that of the others (kl, 32 samples: 0.34 against 1.24 and 1.03). On the line, with a target of two modes that
no Gaussian is close to, the three are alike, but for pearson, with its heavy weights, where that of the score form is
half as large (0.26 against 0.49).
Where f has a kink, k is 0 almost everywhere and a pathwise gradient misses all that happens at the kink:
total_variation and hockey_stick take the score form. It is also the one to name where p̃ jumps or vanishes inside the
support of q, since the pathwise forms see no jump.

Z. If log Z is not known, the weights of the same samples give Ẑ = (1/n) Σ w_i, kept constant in the gradient. In
k_i/Σk, Z cancels where f''(r) is a power of r (kl, reverse_kl, alpha, pearson, neyman, squared_hellinger): there
Rényi's D_α has the same gradient but for a positive factor, and no Z is needed. reverse_kl needs none at all, and its
gradient is the only one without bias. Every other one has a bias of order 1/n, as has the value: `Estimate.bias`. A
mode where q puts no samples is in no estimate: neither the value nor the effective sample size shows that it is
missing. Fits from several starts show it, since each is then estimated on samples of all fits and starts. Let one start
be wide: on samples of a narrow q alone, Ẑ has so heavy a tail that no standard error holds (`Estimate.heavy_tailed`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import stop_gradient
from jax.scipy.special import logsumexp

from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import divergence
from estimators.exact_values.monte_carlo import HEAVY
from estimators.exact_values.quadrature import LogDensity
from estimators.objectives.families import Family, Parameters

Estimator = Literal["auto", "doubly_reparameterised", "reparameterised", "score"]
Float64 = np.ndarray | jax.Array  # an array of NumPy where it leaves this file
FARTHEST = 28.0
"""nats; log-ratios beyond it count as this in gradients. e^{3·28}, which f'' of neyman takes, is a float32. Of n
samples with their own Ẑ no ratio exceeds n, and at the other end the weights of kl and its like are 0 to rounding."""

WIDEST = 200.0
"""nats; the same for errors and bias of values: e^{3·200} is a float64."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """D_f(P‖Q_θ) between an unnormalised density and a family; with `swap`, D_f(Q_θ‖P).

    Attributes:
        log_target: log p̃, x [n, d] → [n], written with jax.numpy; differentiable but for the score form.
        family: what is fitted, as `families.GAUSSIAN`.
        divergence: a name of the table, or an FDivergence; for Rényi's D_α take alpha(α), which has its minimiser.
        log_normaliser: log Z where it is known.
        estimator: of the gradient, see above.

    Raises:
        ValueError: an unknown name, or a doubly reparameterised or reparameterised gradient of an f with a kink.
    """

    log_target: LogDensity
    family: Family
    divergence: str | FDivergence = "reverse_kl"
    swap: bool = False
    log_normaliser: float | None = None
    estimator: Estimator = "auto"

    def __post_init__(self):
        if self.estimator not in get_args(Estimator):
            raise ValueError(f"estimator = {self.estimator!r}: choose from {', '.join(get_args(Estimator))}")
        if not self.d.smooth and self.form != "score":
            raise ValueError(
                f"estimator = {self.estimator!r} of {self.d.name}: a pathwise gradient misses the kink of f, where "
                "all of it is; use score"
            )

    @cached_property
    def d(self) -> FDivergence:
        """The f-divergence in the order (P, Q_θ)."""
        d = divergence(self.divergence)
        return d.reversed() if self.swap else d

    @property
    def form(self) -> str:
        """The estimator of the gradient, `auto` resolved."""
        best = "doubly_reparameterised" if self.d.smooth else "score"
        return best if self.estimator == "auto" else self.estimator


def gradient(
    objective: Objective, parameters: Parameters, key: jax.Array, samples: int, *, relative: bool = False
) -> Parameters:
    """An estimate of ∇_θ D_f from that many samples of q_θ, a pytree as θ. For jit and vmap.

    Without bias where log Z is known (and no log-ratio is beyond `FARTHEST`), of order 1/n else.

    Args:
        relative: divide by mean k, k = r² f''(r), where f is smooth: the doubly reparameterised gradient is then a
            weighted mean, its weights sum to 1 however far q is from p, and it needs no Z where f'' is a power of r.

    Raises:
        ValueError: fewer than two samples.

    >>> from estimators.objectives.families import GAUSSIAN, GaussianParameters
    >>> problem = Objective(log_target=lambda x: -0.5 * jnp.sum(x**2, axis=1), family=GAUSSIAN, divergence="kl")
    >>> at_optimum = GaussianParameters.of([0.0], [[1.0]])
    >>> float(gradient(problem, at_optimum, jax.random.key(0), 16).mean[0])
    0.0
    """
    if samples < 2:
        raise ValueError(f"samples = {samples}: take at least 2, since their spread and their mean are needed")
    return jax.grad(_surrogate)(parameters, objective, key, samples, relative)


def _surrogate(parameters, objective: Objective, key, samples: int, relative: bool) -> jax.Array:
    """A number whose gradient in θ is the estimate."""
    d, form, family = objective.d, objective.form, objective.family
    x = family.sample(parameters, key, samples)
    if form == "score":
        x = stop_gradient(x)
    log_q = family.log_prob(stop_gradient(parameters) if form == "doubly_reparameterised" else parameters, x)
    log_w = objective.log_target(x) - log_q
    known = objective.log_normaliser
    log_z = _log_mean(stop_gradient(log_w)) if known is None else known
    log_ratio = jnp.clip(log_w - log_z, -FARTHEST, FARTHEST)
    fixed = jnp.exp(stop_gradient(log_ratio))
    k = fixed**2 * d.second(fixed) if d.smooth else jnp.ones_like(fixed)
    if form == "doubly_reparameterised":
        value = -jnp.mean(k * log_w)
    elif form == "score":
        phi = d.f(fixed) - fixed * d.prime(fixed)
        value = jnp.sum((phi - jnp.mean(phi)) * log_q) / (samples - 1)
    else:
        r = jnp.exp(log_ratio)
        value = jnp.mean(d.f(r) - d.prime(jnp.ones_like(r)) * (r - 1.0))
    return value / jnp.mean(k) if relative else value


def _log_mean(values: jax.Array) -> jax.Array:
    return logsumexp(values) - math.log(values.shape[0])


class Estimate(NamedTuple):
    """D_f from samples, in nats, its uncertainty, and how good the samples are; NumPy float64 [...], of one shape."""

    value: Float64
    standard_error: Float64
    bias: Float64  # the part of order 1/n of E[value] − D_f, which Ẑ brings in; 0 where log Z is known
    effective_sample_size: Float64  # (Σ w)²/Σ w² of the weights w = p̃/m on the points drawn
    log_normaliser: Float64  # log Ẑ, or the known one; less the value of reverse_kl it is the ELBO, where Ẑ cancels
    heaviest: Float64  # share of Σ w that its largest term has

    @property
    def heavy_tailed(self) -> Float64:
        """Whether so few samples carry Ẑ that value and standard error are likely too small: q narrower than p."""
        return self.heaviest > HEAVY


def estimate(
    objective: Objective,
    parameters: Parameters,
    key: jax.Array,
    samples: int = 2**14,
    *,
    proposals: Parameters | None = None,
) -> Estimate:
    """D_f(P‖Q_θ) = f(1) + E_m[(q/m) f̃(r)] by importance sampling from the mean m of the proposals, in float64.

    f̃(u) = f(u) − f(1) − f'(1)(u − 1) ≥ 0. The standard error allows for Ẑ by the delta method, and not for the gain
    of drawing equally from every proposal. The value is +inf, with an error of 0, where q has mass outside the support
    of p and f(0) is infinite.

    Args:
        samples: of each proposal.
        proposals: members of the family, each leaf with a first axis; q_θ itself if None. Others that found other
            modes of p let the estimate see them; q_θ should be among them, to bound q/m by their number.

    Raises:
        ValueError: fewer than two samples, or proposals whose leaves are not those of θ with an axis in front.

    >>> from estimators.objectives.families import GAUSSIAN, GaussianParameters
    >>> problem = Objective(log_target=lambda x: 3.0 - 0.5 * jnp.sum(x**2, axis=1), family=GAUSSIAN, divergence="kl")
    >>> found = estimate(problem, GaussianParameters.of([1.0], [[1.0]]), jax.random.key(0))
    >>> bool(abs(found.value - 0.5) < 4 * found.standard_error)
    True
    """
    shapes = [[np.shape(leaf)[cut:] for leaf in jax.tree.leaves(t)] for t, cut in ((parameters, 0), (proposals, 1))]
    if samples < 2 or (proposals is not None and shapes[0] != shapes[1]):
        raise ValueError(
            f"samples = {samples}, leaves of θ {shapes[0]}, of a proposal {shapes[1]}: take at least 2 samples, and "
            "proposals with the leaves of θ and one axis in front"
        )
    with jax.enable_x64(True):
        wide = partial(jax.tree.map, lambda leaf: jnp.asarray(leaf, jnp.float64))
        theta = wide(parameters)
        several = jax.tree.map(lambda leaf: leaf[None], theta) if proposals is None else wide(proposals)
        return jax.tree.map(np.asarray, _estimate(objective, theta, several, key, samples))


@partial(jax.jit, static_argnums=(0, 4))
def _estimate(objective: Objective, theta, proposals, key, samples: int) -> Estimate:
    family, integrand = objective.family, log_perspective(objective.d)
    count = jax.tree.leaves(proposals)[0].shape[0]
    drawn = jax.vmap(lambda one, k: family.sample(one, k, samples))(proposals, jax.random.split(key, count))
    x = drawn.reshape(-1, *drawn.shape[2:])
    log_m = logsumexp(jax.vmap(lambda one: family.log_prob(one, x))(proposals), axis=0) - math.log(count)
    log_target, log_q = objective.log_target(x), family.log_prob(theta, x)
    log_weight = log_target - log_m
    known = objective.log_normaliser
    log_z = _log_mean(log_weight) if known is None else jnp.asarray(known, jnp.float64)

    d, log_p = objective.d, log_target - log_z
    term, r = jnp.exp(integrand(log_p, log_q) - log_m), jnp.exp(log_p - log_m)
    u = jnp.exp(jnp.clip(log_p - log_q, -WIDEST, WIDEST))
    excess = d.prime(u) - d.prime(jnp.ones(()))  # f̃'
    slope, bend = -r * excess, r * (excess + u * d.second(u))  # of a term, in log Z
    value, free = d.value_at_one + jnp.mean(term), float(known is None)
    influence = term - jnp.mean(term) + free * jnp.mean(slope) * (r - 1.0)
    covariance = jnp.mean((slope - jnp.mean(slope)) * (r - 1.0))
    bias = covariance + 0.5 * jnp.var(r) * (jnp.mean(bend) - jnp.mean(slope))
    finite = jnp.isfinite(value)
    return Estimate(
        value=value,
        standard_error=jnp.where(finite, jnp.std(influence) / math.sqrt(r.size), 0.0),
        bias=jnp.where(finite, free * bias / r.size, 0.0),
        effective_sample_size=jnp.exp(2.0 * logsumexp(log_weight) - logsumexp(2.0 * log_weight)),
        log_normaliser=log_z,
        heaviest=jnp.exp(jnp.max(log_weight) - logsumexp(log_weight)),
    )


class Fit(NamedTuple):
    """Fitted parameters, each leaf with axes in front, and their divergences on common samples."""

    parameters: Parameters  # [seeds, ...], of the start with the least divergence
    estimate: Estimate  # [seeds]
    start: np.ndarray  # [seeds], the index of that start
    all_parameters: Parameters  # [seeds, starts, ...]
    all_estimates: Estimate  # [seeds, starts]


def fit(
    objective: Objective,
    starts: Sequence[Parameters],
    key: jax.Array,
    *,
    seeds: int = 1,
    samples: int = 512,
    steps: int = 2000,
    learning_rate: float = 0.03,
    check: int = 2**14,
) -> Fit:
    """argmin_θ D_f by Adam from every start, in one scan, vmapped over starts and seeds.

    The step size falls to 0 along a cosine, so that the last steps average the noise of the gradient away. Gradients
    are relative to mean k (`gradient`); one that is not finite is left out. The best start of a seed is that with the
    least divergence on samples of all its fits and of the starts, whose Ẑ they share.

    Args:
        starts: initial parameters, all with the same shapes; one of them as wide as the target.
        samples: of q_θ, a step.
        learning_rate: of Adam at first, in units of the parameters.
        check: samples of each fit and each start for the final divergences.

    Raises:
        ValueError: no start, or counts that are not positive.

    >>> from estimators.objectives.families import GAUSSIAN, GaussianParameters
    >>> problem = Objective(log_target=lambda x: -0.125 * jnp.sum((x - 1.0) ** 2, axis=1), family=GAUSSIAN)
    >>> found = fit(problem, [GaussianParameters.of([0.0], [[1.0]])], jax.random.key(0), samples=16, steps=500)
    >>> [round(float(leaf[0, 0]), 2) for leaf in found.parameters[:2]]  # the mean 1, and log 2
    [1.0, 0.69]
    """
    if not starts or min(seeds, samples - 1, steps, check - 1) < 1 or not learning_rate > 0.0:
        raise ValueError(
            f"{len(starts)} starts, seeds = {seeds}, samples = {samples}, steps = {steps}, check = {check}, "
            f"learning_rate = {learning_rate}: give a start, positive counts, 2 samples at least, a positive rate"
        )
    stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf, float) for leaf in leaves]), *starts)
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(state, now):
        theta, moments = state
        slope = gradient(objective, theta, now, samples, relative=True)
        good = jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(slope)]).all()
        update, new = optimizer.update(slope, moments)
        changed = optax.apply_updates(theta, update), new
        return jax.tree.map(lambda a, b: jnp.where(good, a, b), changed, state), None

    def descend(theta, own):
        keys = jax.vmap(partial(jax.random.fold_in, own))(jnp.arange(steps))
        return jax.lax.scan(step, (theta, optimizer.init(theta)), keys)[0][0]

    of_fit, of_check = (jax.vmap(partial(jax.random.fold_in, k))(jnp.arange(seeds)) for k in jax.random.split(key))
    over_starts = jax.vmap(lambda theta, i, own: descend(theta, jax.random.fold_in(own, i)), (0, 0, None))
    fitted = jax.jit(jax.vmap(over_starts, (None, None, 0)))(stacked, jnp.arange(len(starts)), of_fit)
    return _best(objective, fitted, stacked, of_check, check)


def _best(objective: Objective, fitted: Parameters, starts: Parameters, keys: jax.Array, samples: int) -> Fit:
    """The fits [seeds, starts, ...] with their divergences, and the best of each seed."""

    def of_seed(several, first, key):
        proposals = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), several, first)
        return jax.vmap(lambda one: _estimate(objective, one, proposals, key, samples))(several)

    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), (fitted, starts))
        found = jax.tree.map(np.asarray, jax.jit(jax.vmap(of_seed, (0, None, 0)))(*wide, keys))
    start = np.argmin(np.nan_to_num(found.value, nan=np.inf), axis=1)
    best = (np.arange(len(start)), start)
    parameters, chosen = (jax.tree.map(lambda leaf: leaf[best], tree) for tree in (fitted, found))
    return Fit(parameters, chosen, start, fitted, found)
