"""KL at work between policies: exact values, constrained steps, and the optimum that a KL penalty has.

Logits and tables of a policy are [..., actions]; a Gaussian policy has means and logarithms of standard deviations,
[..., d]. P stands first: KL(π_old‖π_new) is `categorical_kl(old, new)`. All in nats. An action that is not allowed has
the logit −∞. Sampled actions give k1, k2 and k3 through their log-densities.

A penalty and a prior π₀ make the regularised objective

    J(π) = E Σ_t γ^t [r(s_t, a_t) − β KL(π(·|s_t)‖π₀(·|s_t))],

whose optimum is known in closed form (`regularised_optimum`, γ = 0), or by contraction (`soft_value_iteration`). What
another policy lacks to it is β KL(π‖π*) over the states that π visits: E_s of it / (1 − γ), s from `visits`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.nn import log_softmax, softplus
from jax.scipy.sparse.linalg import cg
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.exact_values import gaussian
from estimators.objectives.checks import floating, positive, probabilities, share

Parameters = Any
"""A pytree of arrays."""

# --- divergences of policies ------------------------------------------------------------------------------------------


def categorical_kl(p: ArrayLike, q: ArrayLike) -> jax.Array:
    """KL(P‖Q) = Σ_a p_a (log p_a − log q_a) from logits: [..., a], [..., a] → [...], +∞ where p_a > 0 = q_a.

    optax takes the two in the other order.

    Raises:
        ValueError: shapes that differ.

    >>> import jax.numpy as jnp
    >>> p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75]))
    >>> round(float(categorical_kl(p, q)), 4)
    0.1438
    """
    log_p, log_q = (log_softmax(floating(logits)) for logits in (p, q))
    if log_p.shape != log_q.shape:
        raise ValueError(f"logits of shape {log_p.shape} and {log_q.shape}: both are [..., actions]")
    allowed = log_p != -jnp.inf  # NaN stays NaN
    log_p, log_q = jnp.where(allowed, log_p, 0.0), jnp.where(allowed, log_q, 0.0)
    return optax.losses.kl_divergence_with_log_targets(log_q, log_p, where=allowed)


def entropy(logits: ArrayLike) -> jax.Array:
    """H(π) = log |A| − KL(π‖uniform): [..., a] → [...], between 0 and log |A|.

    A bonus for entropy is a penalty on the KL to the uniform policy (soft actor–critic).

    >>> import jax.numpy as jnp
    >>> round(float(entropy(jnp.zeros(4))), 4)  # log 4
    1.3863
    """
    logits = floating(logits)
    return math.log(logits.shape[-1]) - categorical_kl(logits, jnp.zeros_like(logits))


def gaussian_kl(mean_p: ArrayLike, log_std_p: ArrayLike, mean_q: ArrayLike, log_std_q: ArrayLike) -> jax.Array:
    """KL of diagonal Gaussians, `gaussian.kl` over leading axes: four arrays [..., d] → [...].

    >>> import jax.numpy as jnp
    >>> float(gaussian_kl(jnp.ones(2), jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)))
    1.0
    """
    mean_p, log_std_p, mean_q, log_std_q = map(floating, (mean_p, log_std_p, mean_q, log_std_q))
    return _diagonal_kl(mean_p, jnp.exp(2.0 * log_std_p), mean_q, jnp.exp(2.0 * log_std_q))


_diagonal_kl = jnp.vectorize(gaussian.kl, signature="(d),(d),(d),(d)->()")


def squashed_gaussian_kl(mean_p: ArrayLike, log_std_p: ArrayLike, mean_q: ArrayLike, log_std_q: ArrayLike) -> jax.Array:
    """KL of two policies a = tanh(u), u Gaussian: [..., d] → [...]. It is `gaussian_kl`, that of u.

    A map that is invertible and the same for both changes no f-divergence: the derivative of tanh cancels in the ratio
    of the densities. The entropy of a does change.

    >>> import jax.numpy as jnp
    >>> float(squashed_gaussian_kl(jnp.ones(2), jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)))
    1.0
    """
    return gaussian_kl(mean_p, log_std_p, mean_q, log_std_q)


def squashed_log_prob(before: ArrayLike, mean: ArrayLike, log_std: ArrayLike) -> jax.Array:
    """log π(a) at a = tanh(u) from u itself: log N(u) − Σ log(1 − tanh² u), [..., d] → [...].

    From u, since atanh(a) loses all digits near ±1; log(1 − tanh² u) = 2 (log 2 − u − softplus(−2u)).

    Source: Haarnoja, Zhou, Abbeel, Levine 2018, Soft actor–critic, appendix C.

    >>> import jax.numpy as jnp
    >>> round(float(squashed_log_prob(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))), 4)  # log N(0)
    -0.9189
    """
    u, mean, log_std = map(floating, (before, mean, log_std))
    z = (u - mean) * jnp.exp(-log_std)
    normal = -0.5 * z**2 - log_std - 0.5 * math.log(2.0 * math.pi)
    return jnp.sum(normal - 2.0 * (math.log(2.0) - u - softplus(-2.0 * u)), axis=-1)


# --- steps within a trust region --------------------------------------------------------------------------------------


class LineSearch(NamedTuple):
    """What a line search found; `fraction` is 0 and the parameters are the old ones if no step was accepted."""

    parameters: Parameters
    fraction: jax.Array
    improvement: jax.Array
    kl: jax.Array


def line_search(
    objective: Callable[[Parameters], jax.Array],
    kl: Callable[[Parameters], jax.Array],
    parameters: Parameters,
    step: Parameters,
    *,
    limit: ArrayLike,
    shrink: float = 0.8,
    tries: int = 15,
) -> LineSearch:
    """The largest of the steps shrink^k · `step`, k = 0, …, tries − 1, with KL ≤ δ and a higher objective.

    A value that is not finite counts as a refusal. Pure; under vmap every member searches on its own.

    Args:
        objective: parameters → what is maximised.
        kl: parameters → the divergence that δ limits, such as the mean KL(π_old‖π).
        limit: δ > 0, in nats.
        shrink: factor between two tries, in (0, 1).

    Source: Schulman, Levine, Moritz, Jordan, Abbeel 2015, Trust region policy optimization, appendix C.

    >>> found = line_search(lambda x: x, lambda x: 0.5 * x**2, 0.0, 2.0, limit=0.5, shrink=0.5)
    >>> float(found.fraction), float(found.parameters)
    (0.5, 1.0)
    """
    positive("limit", limit, "it is the KL in nats that a step may use up")
    if not 0.0 < shrink < 1.0 or tries < 1:
        raise ValueError(f"shrink = {shrink} and tries = {tries}: the first lies between 0 and 1, the second is ≥ 1")
    before = objective(parameters)

    def at(k):
        fraction = jnp.power(shrink, k.astype(jnp.result_type(float)))
        moved = jax.tree.map(lambda p, s: p + (fraction * s).astype(jnp.result_type(p)), parameters, step)
        return LineSearch(moved, fraction, objective(moved) - before, kl(moved))

    def accepted(found):  # a comparison with NaN is false
        return (found.kl <= limit) & (found.improvement > 0.0) & (found.improvement < jnp.inf)

    def advance(state):
        k, _ = state
        return k + 1, at(k + 1)

    _, found = lax.while_loop(
        lambda state: ~accepted(state[1]) & (state[0] < tries - 1),
        advance,
        (jnp.zeros((), int), at(jnp.zeros((), int))),
    )
    good = accepted(found)
    unmoved = LineSearch(parameters, *(jnp.zeros_like(x) for x in found[1:]))
    return jax.tree.map(lambda new, old: jnp.where(good, new, old), found, unmoved)


def fisher_product(
    kl: Callable[[Parameters], jax.Array], parameters: Parameters, *, damping: float = 0.0
) -> Callable[[Parameters], Parameters]:
    """v → (F + λI) v, F the Fisher information: the Hessian of KL(π_old‖π_θ) at θ = θ_old, never formed.

    Args:
        kl: parameters → mean KL from the policy of `parameters` itself, where it is least.
        damping: λ ≥ 0.

    >>> import jax.numpy as jnp
    >>> old = jnp.zeros(2)
    >>> product = fisher_product(lambda theta: categorical_kl(old, theta), old)
    >>> product(jnp.array([1.0, 0.0])).tolist()  # diag(π) − ππᵀ
    [0.25, -0.25]
    """

    def product(vector):
        curved = jax.jvp(jax.grad(kl), (parameters,), (vector,))[1]
        return jax.tree.map(lambda c, v: c + damping * v, curved, vector)

    return product


def natural_step(
    gradient: Parameters,
    product: Callable[[Parameters], Parameters],
    *,
    limit: ArrayLike,
    iterations: int = 10,
) -> Parameters:
    """The step √(2δ / sᵀFs) s with s = F⁻¹g by conjugate gradients: the steepest ascent within ½ sᵀFs ≤ δ.

    0 where the gradient is 0. The KL is δ to second order only: follow it by `line_search`.

    Source: Schulman, Levine, Moritz, Jordan, Abbeel 2015, appendix C; Kakade 2001, A natural policy gradient.

    >>> import jax.numpy as jnp
    >>> step = natural_step(jnp.array([3.0, 0.0]), lambda v: 4.0 * v, limit=0.5)
    >>> step.tolist()  # ½ · 4 · 0.5² = 0.5
    [0.5, 0.0]
    """
    positive("limit", limit, "it is the KL in nats that a step may use up")
    direction, _ = cg(product, gradient, maxiter=iterations)
    curvature = optax.tree.vdot(direction, product(direction))
    useful = curvature > 0.0
    scale = jnp.where(useful, jnp.sqrt(2.0 * limit / jnp.where(useful, curvature, 1.0)), 0.0)
    return jax.tree.map(lambda d: scale * d, direction)


def adapted_coefficient(
    coefficient: ArrayLike, kl: ArrayLike, target: ArrayLike, *, slack: float = 1.5, factor: float = 2.0
) -> jax.Array:
    """The next coefficient of a KL penalty: doubled where KL > 1.5 δ, halved where KL < δ/1.5, else the same.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, Proximal policy optimization, section 4.

    >>> import jax.numpy as jnp
    >>> adapted_coefficient(jnp.ones(3), jnp.array([0.01, 0.1, 0.2]), 0.1).tolist()
    [0.5, 1.0, 2.0]
    """
    positive("target", target, "it is the KL in nats that the penalty holds")
    coefficient, kl = floating(coefficient), floating(kl)
    higher, lower = kl > slack * target, kl < target / slack
    return jnp.where(higher, factor * coefficient, jnp.where(lower, coefficient / factor, coefficient))


# --- the optimum of a KL penalty --------------------------------------------------------------------------------------


class Regularised(NamedTuple):
    """The optimum of E_π r − β KL(π‖π₀): log π* [..., a], and its value [...]."""

    log_policy: jax.Array
    value: jax.Array


def regularised_optimum(prior: ArrayLike, rewards: ArrayLike, beta: ArrayLike) -> Regularised:
    """π* ∝ π₀ e^{r/β} with the value β log E_{π₀} e^{r/β}: logits of π₀ and rewards [..., a] → [..., a], [...].

    The maximum of E_π r − β KL(π‖π₀), by the Gibbs variational principle; it lacks β KL(π‖π*) at any other π. The value
    lies between E_{π₀} r (β → ∞) and max r (β → 0).

    Raises:
        ValueError: shapes that differ, or β that is not positive.

    Source: Donsker, Varadhan 1975; in reinforcement learning Todorov 2006, Ziebart 2010; of language models Rafailov,
    Sharma, Mitchell, Ermon, Manning, Finn 2023, eq. 4.

    >>> import jax.numpy as jnp
    >>> found = regularised_optimum(jnp.zeros(2), jnp.array([1.0, 0.0]), 1.0)
    >>> round(float(found.value), 4), round(float(jnp.exp(found.log_policy)[0]), 4)
    (0.6201, 0.7311)
    """
    log_prior, r = log_softmax(floating(prior)), floating(rewards)
    if log_prior.shape != r.shape:
        raise ValueError(f"a prior of shape {log_prior.shape} and rewards {r.shape}: both are [..., actions]")
    positive("beta", beta, "it is the price of a nat of KL")
    allowed = log_prior > -jnp.inf
    top = lax.stop_gradient(jnp.max(jnp.where(allowed, r, -jnp.inf), axis=-1, keepdims=True))
    x = jnp.where(allowed, r - top, 0.0) / beta
    far = logsumexp(log_prior + x, axis=-1)
    near = jnp.log1p(jnp.sum(jnp.exp(log_prior) * jnp.expm1(jnp.maximum(x, -1.0)), axis=-1))
    log_mean = jnp.where(jnp.min(x, axis=-1) > -1.0, near, far)  # near: β log E e^{r/β} keeps its digits for large β
    return Regularised(log_prior + x - log_mean[..., None], top[..., 0] + beta * log_mean)


class SoftSolution(NamedTuple):
    """The optimum of J in a tabular MDP: log π* [s, a], Q [s, a], V [s]."""

    log_policy: jax.Array
    action_value: jax.Array
    value: jax.Array


def soft_value_iteration(
    rewards: ArrayLike,
    transitions: ArrayLike,
    prior: ArrayLike,
    *,
    beta: ArrayLike,
    discount: float,
    tolerance: float = 1e-8,
) -> SoftSolution:
    """V(s) = β log Σ_a π₀(a|s) e^{Q(s,a)/β}, Q = r + γ P V, by its contraction: the optimum of J in a tabular MDP.

    As many iterations as bring γ^n below `tolerance`: sup |V_n − V*| ≤ γ^n sup |V*|. Differentiable.

    Args:
        rewards: r [s, a].
        transitions: P [s, a, s'], of sum 1 over s'.
        prior: logits of π₀ [s, a].
        beta: β > 0.
        discount: γ in [0, 1).

    Raises:
        ValueError: shapes that do not fit, probabilities that are negative or do not sum to 1, γ or β out of range.

    Source: Ziebart 2010, Modeling purposeful adaptive behavior; Geist, Scherrer, Pietquin 2019.

    >>> import jax.numpy as jnp
    >>> stay = jnp.ones((1, 2, 1))
    >>> found = soft_value_iteration(jnp.array([[1.0, 0.0]]), stay, jnp.zeros((1, 2)), beta=1.0, discount=0.5)
    >>> round(float(found.value[0]), 4)  # 0.6201 / (1 − 0.5)
    1.2402
    """
    r, p, prior = _process(rewards, transitions, prior, discount)
    n = 1 if discount == 0.0 else max(1, math.ceil(math.log(tolerance) / math.log(discount)))

    def backed_up(value):
        return r + discount * jnp.einsum("sat,t->sa", p, value, precision="highest")

    def improve(value, _):
        return regularised_optimum(prior, backed_up(value), beta).value, None

    value, _ = lax.scan(improve, jnp.zeros(r.shape[0], r.dtype), None, length=n)
    q = backed_up(value)
    return SoftSolution(regularised_optimum(prior, q, beta).log_policy, q, value)


def policy_value(
    policy: ArrayLike,
    rewards: ArrayLike,
    transitions: ArrayLike,
    prior: ArrayLike,
    *,
    beta: ArrayLike,
    discount: float,
) -> jax.Array:
    """V^π = (I − γP_π)⁻¹ (r_π − β KL(π‖π₀)), the exact J from each state: logits [s, a] → [s].

    At β = 0 it is the mean reward alone, of a policy outside the support of π₀ as well.

    >>> import jax.numpy as jnp
    >>> stay = jnp.ones((1, 2, 1))
    >>> r, uniform = jnp.array([[1.0, 0.0]]), jnp.zeros((1, 2))
    >>> policy_value(uniform, r, stay, uniform, beta=1.0, discount=0.5).tolist()
    [1.0]
    """
    r, p, prior = _process(rewards, transitions, prior, discount)
    chosen = jnp.exp(log_softmax(floating(policy)))
    reward = jnp.sum(share(chosen, r), axis=-1) - share(beta, categorical_kl(policy, prior))
    return jnp.linalg.solve(_resolvent(chosen, p, discount), reward)


def visits(policy: ArrayLike, transitions: ArrayLike, start: ArrayLike, *, discount: float) -> jax.Array:
    """(1 − γ) Σ_t γ^t P(s_t = s) from the law `start` [s] of s_0: logits [s, a] → [s], of sum 1.

    >>> import jax.numpy as jnp
    >>> away = jnp.array([[[0.0, 1.0]], [[0.0, 1.0]]])  # 0 → 1 → 1 → …
    >>> visits(jnp.zeros((2, 1)), away, jnp.array([1.0, 0.0]), discount=0.5).tolist()
    [0.5, 0.5]
    """
    chosen, start = jnp.exp(log_softmax(floating(policy))), floating(start)
    _, p, _ = _process(jnp.zeros_like(chosen), transitions, policy, discount)
    if start.shape != chosen.shape[:1]:
        raise ValueError(f"start of shape {start.shape}: it is a probability for each of the {chosen.shape[0]} states")
    probabilities("start", start)
    return (1.0 - discount) * jnp.linalg.solve(_resolvent(chosen, p, discount).T, start)


def _resolvent(chosen: jax.Array, transitions: jax.Array, discount: float) -> jax.Array:
    """I − γP_π: [s, s']."""
    moved = jnp.einsum("sa,sat->st", chosen, transitions, precision="highest")
    return jnp.eye(moved.shape[0], dtype=moved.dtype) - discount * moved


def _process(rewards, transitions, prior, discount: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(r [s, a], P [s, a, s'], logits of π₀ [s, a]), checked."""
    r, p, prior = map(floating, (rewards, transitions, prior))
    if r.ndim != 2 or p.shape != (*r.shape, r.shape[0]) or prior.shape != r.shape:
        raise ValueError(
            f"rewards of shape {r.shape}, transitions {p.shape}, prior {prior.shape}: of [s, a], [s, a, s'] and [s, a]"
        )
    probabilities("transitions", p)
    if not 0.0 <= discount < 1.0:
        raise ValueError(f"discount = {discount}: γ lies in [0, 1)")
    return r, p, prior
