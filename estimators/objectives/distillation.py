"""Losses that teach a student classifier what a teacher knows, from the logits of both.

Conventions: the teacher comes first, as P does; m are its logits and n the student's, [..., k] over k classes, and each
function returns one value a row, [...], in nats. At a temperature T both are softened, s = softmax(·/T), and the
loss is multiplied by T²: as T grows, T² D_f(s_m‖s_n) tends to ½ f''(1) Var(m − n), the variance over classes, so that
the size of the gradient does not depend on T (Hinton, Vinyals, Dean 2015, section 2.1). A temperature may be traced.
A class that cannot occur has the logit −∞ in both; `decoupled_kl` and `improved_kl`, which subtract logits, need
finite ones.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jax.nn import log_softmax, softmax
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from estimators.divergences.generator import FDivergence
from estimators.divergences.table import divergence
from estimators.objectives.checks import floating, known, positive, probabilities, share
from estimators.objectives.policies import categorical_kl

Loss = Callable[..., jax.Array]
"""(teacher logits, student logits, temperature) → one loss a row."""

WIDEST = 30.0
"""Largest |log p/q| at which a generator is evaluated. e^60, its square, fits float32; beyond it a divergence is
continued by its tangent, from below."""


def softened_kl(teacher: ArrayLike, student: ArrayLike, temperature: ArrayLike = 1.0) -> jax.Array:
    """T² KL(softmax(m/T)‖softmax(n/T)): [..., k], [..., k] → [...].

    Raises:
        ValueError: shapes that differ, or a temperature that is not positive.

    Source: Hinton, Vinyals, Dean 2015, Distilling the knowledge in a neural network, section 2.

    >>> round(float(softened_kl([2.0, 0.0], [0.0, 0.0], temperature=2.0)), 4)
    0.4438
    """
    m, n, scale = _softened(teacher, student, temperature)
    return scale * categorical_kl(m, n)


def temperature_loss(
    labels: ArrayLike,
    teacher: ArrayLike,
    student: ArrayLike,
    temperature: ArrayLike = 4.0,
    *,
    weight: ArrayLike = 0.1,
    loss: Loss = softened_kl,
) -> jax.Array:
    """α H(y, student) + (1 − α) T² KL(teacher_T‖student_T): [...] labels, [..., k] logits → [...].

    Args:
        labels: the true classes, integers 0, …, k − 1.
        temperature: T > 0, of the second term alone.
        weight: α of the true labels, in [0, 1]; at 1 the teacher is not heard, at 0 the labels are not: an infinite
            term without weight counts 0.
        loss: what stands in for the softened KL, as (teacher, student, temperature) → [...].

    Raises:
        ValueError: labels that are not integers or out of range, or a weight outside [0, 1].

    Source: Hinton, Vinyals, Dean 2015, section 2.

    >>> import jax.numpy as jnp
    >>> teacher, student = jnp.array([[2.0, 0.0]]), jnp.zeros((1, 2))
    >>> alone = temperature_loss(jnp.array([0]), teacher, student, weight=1.0)
    >>> round(float(alone[0]), 4)  # log 2
    0.6931
    """
    labels = _classes(labels, jnp.shape(student)[-1])
    if known(weight) and not 0.0 <= float(np.asarray(weight)) <= 1.0:
        raise ValueError(f"weight = {weight}: the share of the true labels lies in [0, 1]")
    hard = optax.softmax_cross_entropy_with_integer_labels(floating(student), labels)
    return share(weight, hard) + share(1.0 - jnp.asarray(weight), loss(teacher, student, temperature))


def divergence_loss(
    teacher: ArrayLike, student: ArrayLike, temperature: ArrayLike = 1.0, *, d: FDivergence | str = "js"
) -> jax.Array:
    """T² D_f(softmax(m/T)‖softmax(n/T)) for any f-divergence of the table, or of one's own: [..., k] → [...].

    D_f = Σ_k max_u [q_k f(u) + (p_k − q_k u) f'(u)], whose maximum is at u = p_k/q_k. Where |log p_k/q_k| exceeds
    `WIDEST`, u stays there: the value is then a lower bound, finite, with the gradient of the tangent. At the maximum
    the derivative through u vanishes, hence u is held constant: first derivatives are exact, second ones are not. A
    divergence with a kink has no T² limit: it falls as 1/T, and T² D_f grows as T.

    Raises:
        ValueError: an unknown divergence, shapes that differ, or a temperature that is not positive.

    >>> round(float(divergence_loss([2.0, 0.0], [0.0, 0.0], d="total_variation")), 4)
    0.3808
    """
    d = divergence(d) if isinstance(d, str) else d
    m, n, scale = _softened(teacher, student, temperature)
    log_p, log_q = log_softmax(m), log_softmax(n)
    equal = log_p == log_q  # also where both are −∞
    ratio = jnp.where(equal, 0.0, log_p - jnp.where(equal, 0.0, log_q))
    u = jnp.exp(lax.stop_gradient(jnp.clip(ratio, -WIDEST, WIDEST)))
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    return scale * jnp.sum(q * d.f(u) + (p - q * u) * d.prime(u), axis=-1)


def decoupled_kl(teacher: ArrayLike, student: ArrayLike, temperature: ArrayLike = 1.0) -> jax.Array:
    """T² (¼ Σ_jk sg(s_j s_k)(Δm_jk − sg Δn_jk)² − Σ_k sg(s_k) log s_k(n)), s = s(m): [..., k] → [...].

    Its gradients in m and in n are those of `softened_kl`; its value is not. Δ is the matrix of differences between
    logits (over T), sg stops the gradient. The first term moves the teacher alone, the second the student alone: for a
    fixed teacher nothing is left but the KL, which is what `improved_kl` changes. The double sum is ½ Var_s(m − n).

    Source: Cui, Tian, Zhong, Qi, Yu, Zhang 2024, Decoupled Kullback–Leibler divergence loss, theorem 1.

    >>> import jax
    >>> m, n = jax.numpy.array([1.0, 0.0, -1.0]), jax.numpy.array([0.0, 0.5, 0.0])
    >>> gradients = [jax.grad(loss, argnums=(0, 1))(m, n) for loss in (decoupled_kl, softened_kl)]
    >>> bool(jax.numpy.allclose(gradients[0][0], gradients[1][0], atol=1e-6))
    True
    """
    m, n, scale = _softened(teacher, student, temperature)
    weights = lax.stop_gradient(softmax(m))
    return scale * (_half_variance(weights, m - lax.stop_gradient(n)) + optax.softmax_cross_entropy(n, weights))


def improved_kl(
    teacher: ArrayLike,
    student: ArrayLike,
    temperature: ArrayLike = 1.0,
    *,
    means: ArrayLike,
    pull: ArrayLike = 1.0,
) -> jax.Array:
    """T² (β ¼ Σ_jk w_j w_k (Δm_jk − Δn_jk)² − Σ_k sg(s_k) log s_k(n)), the improved KL (IKL): [..., k] → [...].

    As `decoupled_kl`, but for two changes: Δn is not stopped, so that the first term pulls the student too, and its
    weights w are those of the row's class, not of the row. The first term has the same value at every T.

    Args:
        means: w [..., k] or [k], of sum 1: `class_means(…)[labels]`.
        pull: β ≥ 0, the weight of the first term.

    Raises:
        ValueError: as `softened_kl`, or means of another shape, or that do not sum to 1.

    Source: Cui, Tian, Zhong, Qi, Yu, Zhang 2024, section 3; the class means are theirs at a fixed teacher.

    >>> m, n = jax.numpy.array([1.0, 0.0]), jax.numpy.array([0.0, 0.0])
    >>> float(improved_kl(m, n, means=[0.5, 0.5]) - improved_kl(m, n, means=[0.5, 0.5], pull=0.0))  # ½·¼
    0.125
    """
    m, n, scale = _softened(teacher, student, temperature)
    w = floating(means)
    if w.shape not in (m.shape, m.shape[-1:]):
        raise ValueError(f"means of shape {w.shape}: with logits {m.shape} they are {m.shape} or {m.shape[-1:]}")
    probabilities("means", w)
    weights = lax.stop_gradient(jnp.broadcast_to(w, m.shape))
    soft = optax.softmax_cross_entropy(n, lax.stop_gradient(softmax(m)))
    return scale * (pull * _half_variance(weights, m - n) + soft)


def class_means(teacher: ArrayLike, labels: ArrayLike, temperature: ArrayLike = 1.0) -> jax.Array:
    """Row c: the mean of softmax(m/T) over the rows of class c, [n, k] logits and [n] labels → [k, k].

    A class without rows has the weights 1/k.

    Raises:
        ValueError: shapes that do not fit, or labels that are not integers or out of range.

    >>> import jax.numpy as jnp
    >>> class_means(jnp.array([[0.0, 0.0], [0.0, 0.0]]), jnp.array([0, 0])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    m, _, _ = _softened(teacher, teacher, temperature)
    if m.ndim != 2 or jnp.shape(labels) != m.shape[:1]:
        raise ValueError(f"logits of shape {m.shape} and labels {jnp.shape(labels)}: they are [n, k] and [n]")
    classes = m.shape[-1]
    member = jax.nn.one_hot(_classes(labels, classes), classes, dtype=m.dtype)
    counts = jnp.sum(member, axis=0)[:, None]
    sums = jnp.matmul(member.T, softmax(m), precision="highest")
    return jnp.where(counts > 0.0, sums / jnp.maximum(counts, 1.0), 1.0 / classes)


# --- transport between classes ----------------------------------------------------------------------------------------


def wasserstein_loss(
    teacher: ArrayLike,
    student: ArrayLike,
    temperature: ArrayLike = 1.0,
    *,
    cost: ArrayLike,
    regularisation: float = 0.1,
    iterations: int = 50,
) -> jax.Array:
    """T² times the `sinkhorn_divergence` of softmax(m/T) and softmax(n/T): [..., k] → [...], in units of `cost`.

    Unlike an f-divergence it knows which classes are alike: mass on a similar class costs less. Its source takes the
    entropic cost itself, which is least for a student more certain than its teacher; the divergence here is
    least, and 0, at the teacher.

    Source: Lv, Yang, Li 2024, Wasserstein distance rivals Kullback–Leibler divergence for knowledge distillation.

    >>> import jax.numpy as jnp
    >>> cost = 1.0 - jnp.eye(3)
    >>> bool(jnp.abs(wasserstein_loss(jnp.array([1.0, 0.0, 0.0]), jnp.array([1.0, 0.0, 0.0]), cost=cost)) < 1e-6)
    True
    """
    m, n, scale = _softened(teacher, student, temperature)
    return scale * sinkhorn_divergence(
        log_softmax(m), log_softmax(n), cost, regularisation=regularisation, iterations=iterations
    )


def sinkhorn_divergence(
    log_p: ArrayLike, log_q: ArrayLike, cost: ArrayLike, *, regularisation: float = 0.1, iterations: int = 50
) -> jax.Array:
    """W_ε(p, q) − ½ W_ε(p, p) − ½ W_ε(q, q) ≥ 0, and 0 only at p = q: [..., k] log-probabilities → [...].

    The exact Wasserstein distance of `cost` as ε → 0. For a cost whose e^{−C/ε} is positive definite, such as a
    Euclidean distance, its square, or `class_costs`.

    Source: Feydy, Séjourné, Vialard, Amari, Trouvé, Peyré 2019, theorem 1.

    >>> import jax.numpy as jnp
    >>> p, q, cost = jnp.log(jnp.array([0.9, 0.1])), jnp.log(jnp.array([0.4, 0.6])), 1.0 - jnp.eye(2)
    >>> round(float(sinkhorn_divergence(p, q, cost, regularisation=0.02)), 1)  # total variation
    0.5
    """
    log_p, log_q = jnp.broadcast_arrays(floating(log_p), floating(log_q))
    left, right = jnp.stack([log_p, log_p, log_q]), jnp.stack([log_q, log_p, log_q])
    between, own_p, own_q = entropic_transport(left, right, cost, regularisation=regularisation, iterations=iterations)
    return between - 0.5 * (own_p + own_q)


def entropic_transport(
    log_p: ArrayLike, log_q: ArrayLike, cost: ArrayLike, *, regularisation: float = 0.1, iterations: int = 50
) -> jax.Array:
    """W_ε(p, q) = min_π ⟨π, C⟩ + ε KL(π‖p ⊗ q) over plans π from p to q: [..., k], [..., k], [k, k] → [...].

    Sinkhorn's iterations on the logarithms of the scalings; the value is that of the dual, Σ p f + Σ q g, a lower bound
    before they have converged. Its derivatives in p and q are the potentials f and g, held constant: exact once
    converged, first order only. The cost is not differentiated.

    Args:
        cost: C [k, k], what a unit of mass pays from class i to class j.
        regularisation: ε > 0, in units of the cost. W ≤ W_ε ≤ W + ε min(H(p), H(q)), W the exact distance.
        iterations: how often both potentials are renewed; more are needed as ε falls.

    Raises:
        ValueError: probabilities that do not sum to 1, a cost that is not [k, k], or has entries that are negative or
            not finite; ε ≤ 0.

    Source: Cuturi 2013; Peyré, Cuturi 2019, Computational optimal transport, section 4.4.

    >>> import jax.numpy as jnp
    >>> p, q = jnp.log(jnp.array([0.9, 0.1])), jnp.log(jnp.array([0.4, 0.6]))
    >>> round(float(entropic_transport(p, q, 1.0 - jnp.eye(2), regularisation=0.01)), 2)
    0.5
    """
    log_p, log_q = jnp.broadcast_arrays(floating(log_p), floating(log_q))
    for name, logs in (("exp(log_p)", log_p), ("exp(log_q)", log_q)):
        probabilities(name, logs if not known(logs) else np.exp(logs))
    c = _cost(cost, log_p.shape[-1]).astype(log_p.dtype)
    positive("regularisation", regularisation, "it is ε, small for nearly the exact distance")
    a, b = lax.stop_gradient((log_p, log_q))

    def potential(log_weights, other, costs):  # −ε log Σ_j w_j e^{(h_j − C_ij)/ε}
        inner = (log_weights + other / regularisation)[..., None, :] - costs / regularisation
        return -regularisation * logsumexp(inner, axis=-1)

    costs = jnp.broadcast_to(c, (*a.shape[:-1], *c.shape))  # no implicit rank promotion
    transposed = jnp.swapaxes(costs, -1, -2)

    def renew(_, pair):
        f = potential(b, pair[1], costs)
        return f, potential(a, f, transposed)

    f, g = lax.fori_loop(0, iterations, renew, (jnp.zeros_like(a), jnp.zeros_like(b)))
    f, g = lax.stop_gradient((f, g))
    return jnp.sum(jnp.exp(log_p) * f + jnp.exp(log_q) * g, axis=-1)


def class_costs(features: ArrayLike, labels: ArrayLike, classes: int) -> np.ndarray:
    """1 − cosine of the angle between the centred class means of features: [n, d], [n] → [classes, classes] ≥ 0.

    Classes that look alike to whatever made the features are cheap to confuse: 0 between a class and itself, 1 at right
    angles, up to 2. Lv, Yang, Li 2024 take centred kernel alignment for the cosine.

    Raises:
        ValueError: shapes that do not fit, labels out of range, a class without rows, or whose mean is the mean of all.

    >>> import numpy as np
    >>> class_costs(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 1]), 2).tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    rows, labels = np.asarray(features, float), np.asarray(_classes(labels, classes))
    if rows.ndim != 2 or labels.shape != rows.shape[:1]:
        raise ValueError(f"features of shape {rows.shape} and labels {labels.shape}: they are [n, d] and [n]")
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"no rows of class {missing[0]}: give at least one row of each of the {classes} classes")
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(classes)])
    means -= means.mean(axis=0)
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if not lengths.min() > 0.0:
        raise ValueError(f"the mean of class {lengths.argmin()} is the mean of all: its features have no direction")
    cosines = (means / lengths) @ (means / lengths).T
    costs = np.clip(1.0 - cosines, 0.0, 2.0)
    np.fill_diagonal(costs, 0.0)
    return costs


LOSSES: dict[str, Loss] = {
    "kl": softened_kl,
    "decoupled_kl": decoupled_kl,
    "improved_kl": improved_kl,
    "reverse_kl": partial(divergence_loss, d="reverse_kl"),
    "js": partial(divergence_loss, d="js"),
    "wasserstein": wasserstein_loss,
}
"""Losses by name, (teacher, student, temperature) → [...]; `improved_kl` also needs `means`, `wasserstein` a `cost`."""


def _classes(labels: ArrayLike, classes: int) -> jax.Array:
    """`labels` as integers below `classes`, checked."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(f"labels are {labels.dtype}: give the class of each row as an integer 0, …, {classes - 1}")
    if known(labels) and labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels from {labels.min()} to {labels.max()}: with {classes} logits they are below {classes}"
        )
    return labels


def _half_variance(weights: jax.Array, values: jax.Array) -> jax.Array:
    """½ Var_w(x) = ¼ Σ_jk w_j w_k (x_j − x_k)² over the last axis, for weights of sum 1."""
    mean = jnp.sum(weights * values, axis=-1, keepdims=True)
    return 0.5 * jnp.sum(weights * (values - mean) ** 2, axis=-1)


def _softened(teacher: ArrayLike, student: ArrayLike, temperature: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(m/T, n/T, T²), checked."""
    m, n = floating(teacher), floating(student)
    if m.shape != n.shape or m.ndim == 0:
        raise ValueError(f"logits of shape {m.shape} (teacher) and {n.shape} (student): both are [..., classes]")
    positive("temperature", temperature, "it divides the logits")
    t = jnp.asarray(temperature, jnp.result_type(m, n))
    return m / t, n / t, t**2


def _cost(cost: ArrayLike, classes: int) -> jax.Array:
    if jnp.shape(cost) != (classes, classes):
        raise ValueError(f"cost of shape {jnp.shape(cost)}: between {classes} classes it is ({classes}, {classes})")
    if known(cost) and not (np.isfinite(cost).all() and np.asarray(cost).min() >= 0.0):
        raise ValueError("cost has entries that are negative or not finite; it is what a unit of mass pays to move")
    return jnp.asarray(cost)
