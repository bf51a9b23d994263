"""Relevance over the patches of an image: maps that are distributions, and patch-wise KL weighted by them. Nats.

A map is [B, H, W], B images of H × W patches, non-negative with sum 1 for every image; scores become one by `as_map`.
Where information is to go is then a question of divergences: maps are balanced as barycentres, compared by KL, and
spent as tokens (`token_budget`). Everything here is for jit and vmap; shapes are checked always.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr
from jax.typing import ArrayLike

from estimators.exact_values.barycentres import arithmetic, geometric, jensen_shannon
from estimators.exact_values.probabilities import safe_log
from estimators.objectives.checks import share

BINS = 16
"""Of the histogram of a patch's values: 256 pixels then give 16 a bin, and the entropy is at most log 16 nats."""


# --- patch-wise KL ---------------------------------------------------------------------------------------------------
def patchwise_kl(
    mean: ArrayLike, log_variance: ArrayLike, prior_mean: ArrayLike = 0.0, prior_log_variance: ArrayLike = 0.0
) -> jax.Array:
    """KL(N(μ, e^s) ‖ N(μ₀, e^{s₀})) of every patch, summed over channels: [B, H, W, C] → [B, H, W].

    ½ Σ_c [(μ − μ₀)² e^{−s₀} + e^δ − 1 − δ], δ = s − s₀: `gaussian.kl` with diagonal covariances, from log-variances, as
    encoders put out. No term is negative, and e^δ − 1 − δ keeps its digits in float32 where δ is small.

    Args:
        mean, log_variance: [..., C].
        prior_mean, prior_log_variance: the same shape, or one that broadcasts to it.

    Raises:
        ValueError: shapes that do not fit.

    >>> patchwise_kl(jnp.ones((1, 2, 2, 3)), jnp.zeros((1, 2, 2, 3)))[0].tolist()
    [[1.5, 1.5], [1.5, 1.5]]
    """
    mu = jnp.asarray(mean, jnp.result_type(mean, float))
    if mu.ndim < 1:
        raise ValueError("mean is a number: give [..., C], channels last")
    names = {"log_variance": log_variance, "prior_mean": prior_mean, "prior_log_variance": prior_log_variance}
    s, mu_0, s_0 = (_fitted(name, value, mu) for name, value in names.items())
    return 0.5 * jnp.sum((mu - mu_0) ** 2 * jnp.exp(-s_0) + _exp_excess(s - s_0), axis=-1)


def _fitted(name: str, value: ArrayLike, like: jax.Array) -> jax.Array:
    array = jnp.asarray(value, like.dtype)
    try:
        return jnp.broadcast_to(array, like.shape)
    except ValueError:
        raise ValueError(f"{name} of shape {array.shape} does not broadcast to the mean's {like.shape}") from None


def _exp_excess(x: jax.Array) -> jax.Array:
    """e^x − 1 − x ≥ 0: by its series where |x| < ½, since the difference would cancel. Products and one exp alone."""
    near = jnp.abs(x) < 0.5
    small = jnp.where(near, x, 0.0)
    series = jnp.ones_like(x)
    for n in range(9 if x.dtype == jnp.float32 else 14, 2, -1):  # what is left out is below the rounding of the sum
        series = 1.0 + small * (1.0 / n) * series
    return jnp.where(near, 0.5 * small**2 * series, jnp.exp(x) - (1.0 + x))


def weighted_kl(divergences: jax.Array, relevance: jax.Array) -> jax.Array:
    """Σ_hw relevance · KL, [B, H, W] and a map → [B]: the mean of the patches that matter; H·W times it is their sum.

    A patch without relevance counts 0, its KL infinite or not.

    Raises:
        ValueError: different shapes, or weights that are no map (values are not checked under jit).

    >>> weighted_kl(jnp.array([[[1.0, 3.0]]]), jnp.array([[[0.25, 0.75]]])).tolist()
    [2.5]
    """
    kl, weights = jnp.asarray(divergences), check_map("relevance", relevance)
    if kl.shape != weights.shape:
        raise ValueError(f"divergences of shape {kl.shape}, relevance of shape {weights.shape}: they must be equal")
    return jnp.sum(share(weights, kl), axis=(-2, -1))


# --- maps ------------------------------------------------------------------------------------------------------------
def check_map(name: str, relevance: ArrayLike) -> jax.Array:
    """`relevance` as an array [..., H, W]; ValueError unless it is non-negative with sum 1 (values: outside jit)."""
    weights = jnp.asarray(relevance, jnp.result_type(relevance, float))
    if weights.ndim < 2:
        raise ValueError(f"{name} has shape {weights.shape}: a map is [B, H, W] or [H, W]")
    if not isinstance(relevance, jax.core.Tracer):
        values = np.asarray(relevance)  # in NumPy, since a constant of a compiled function can still be checked
        sums = values.sum(axis=(-2, -1))
        if not ((values >= 0.0).all() and (np.abs(sums - 1.0) < 1e-4).all()):
            raise ValueError(
                f"{name}: smallest weight {values.min():g}, sums {sums.ravel()[:4].tolist()}; a map is non-negative "
                "with sum 1 over the patches of an image. Normalise it, or use as_map on scores"
            )
    return weights


def as_map(scores: jax.Array, temperature: float = 1.0) -> jax.Array:
    """softmax(z/temperature) over patches, z the scores less their mean, in standard deviations: [..., H, W].

    Scores of different units thus weigh alike. Scores that are all equal give the uniform map.

    >>> print(as_map(jnp.array([[0.0, 0.0], [7.0, 7.0]])).round(2))
    [[0.06 0.06]
     [0.44 0.44]]
    """
    if not isinstance(temperature, jax.core.Tracer) and not temperature > 0.0:
        raise ValueError(f"temperature = {temperature}: it must be positive; large ones spread, small ones concentrate")
    return jax.nn.softmax(standardised(scores) / temperature, axis=(-2, -1))


def standardised(scores: jax.Array) -> jax.Array:
    """Scores less their mean over patches, in standard deviations; 0 where all are equal: [..., H, W]."""
    off = scores - jnp.mean(scores, axis=(-2, -1), keepdims=True)
    variance = jnp.mean(off**2, axis=(-2, -1), keepdims=True)
    flat = variance <= 1e-12 * jnp.max(jnp.abs(scores), axis=(-2, -1), keepdims=True) ** 2
    return jnp.where(flat, 0.0, off / jnp.sqrt(jnp.where(flat, 1.0, variance)))


def balanced(maps: ArrayLike, weights: ArrayLike, kind: str = "geometric") -> jax.Array:
    """The barycentre of maps [k, ..., H, W] with weights [k] of sum 1, one of `exact_values.barycentres`: [..., H, W].

    The arithmetic one minimises Σ w KL(p_k‖b): a patch counts that any map finds relevant. The geometric one minimises
    Σ w KL(b‖p_k): a patch counts that no map rules out. The jensen_shannon one lies between.

    Raises:
        ValueError: no maps, weights that are negative or of another sum (values: outside jit), or another kind.

    >>> maps = jnp.array([[[0.5, 0.5]], [[0.1, 0.9]]])
    >>> print(balanced(maps, [0.5, 0.5]).round(2), balanced(maps, [0.5, 0.5], "arithmetic"))
    [[0.25 0.75]] [[0.3 0.7]]
    """
    members, shares = check_map("maps", maps), jnp.asarray(weights, float)
    if members.shape[:1] != shares.shape or members.ndim < 3:
        raise ValueError(f"maps of shape {members.shape}, weights of shape {shares.shape}: give [k, ..., H, W] and [k]")
    if not isinstance(weights, jax.core.Tracer):
        given = np.asarray(weights)
        if (given < 0.0).any() or abs(given.sum() - 1.0) > 1e-4:
            raise ValueError(f"weights = {given.tolist()}: they must not be negative, and sum to 1; see also sharpened")
    if kind not in BARYCENTRES:
        raise ValueError(f"kind = {kind!r}: choose from {', '.join(BARYCENTRES)}")
    flat = members.reshape(*members.shape[:-2], -1)
    return BARYCENTRES[kind](flat, shares).reshape(members.shape[1:])


BARYCENTRES = {"geometric": geometric, "arithmetic": arithmetic, "jensen_shannon": jensen_shannon}
"""How maps are balanced."""


def sharpened(relevance: ArrayLike, power: ArrayLike) -> jax.Array:
    """The map ∝ relevance^power, power > 0: above 1 it concentrates, below it spreads (an inverse temperature).

    A patch of relevance 0 keeps it, with gradient 0.

    >>> print(sharpened(jnp.array([[0.2, 0.8]]), 0.5).round(4))
    [[0.3333 0.6667]]
    """
    if not isinstance(power, jax.core.Tracer) and not np.all(np.asarray(power) > 0.0):
        raise ValueError(f"power = {power}: it must be positive")
    logs = safe_log(check_map("relevance", relevance))
    held = logs > -jnp.inf
    return jax.nn.softmax(jnp.where(held, jnp.asarray(power) * jnp.where(held, logs, 0.0), -jnp.inf), axis=(-2, -1))


# --- scores ----------------------------------------------------------------------------------------------------------
def patches(images: jax.Array, size: int) -> jax.Array:
    """Square patches of images [B, Y, X, C], rows and columns beyond a multiple of `size` cut off: [B, H, W, size², C].

    >>> patches(jnp.zeros((1, 9, 6, 3)), 4).shape
    (1, 2, 1, 16, 3)
    """
    if images.ndim != 4 or not 1 <= size <= min(images.shape[1:3]):
        raise ValueError(f"images of shape {images.shape}, size = {size}: give [B, Y, X, C] and a size within Y and X")
    b, h, w, c = images.shape[0], images.shape[1] // size, images.shape[2] // size, images.shape[3]
    blocks = images[:, : h * size, : w * size].reshape(b, h, size, w, size, c)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, h, w, size**2, c)


def information(values: jax.Array, bins: int = BINS) -> jax.Array:
    """The entropy of the histogram of each patch's values in [0, 1], nats: [..., pixels] → [...].

    0 for an even patch, log bins at most. A histogram has no gradient: the map follows the image, and trains nothing.

    >>> print(information(jnp.array([[0.2, 0.2, 0.2, 0.2], [0.1, 0.1, 0.9, 0.9]])).round(3))  # the second is log 2
    [0.    0.693]
    """
    index = jnp.clip(jnp.floor(values * bins), 0, bins - 1)
    counts = jnp.mean(index[..., None] == jnp.arange(bins).reshape((1,) * values.ndim + (bins,)), axis=-2)
    return jnp.sum(entr(counts), axis=-1)


def salience(features: jax.Array, radius: int = 2) -> jax.Array:
    """‖centre − mean of the surround‖, the surround being the other patches within `radius` on the grid: [B, H, W].

    Args:
        features: [B, H, W, C], such as the mean colours of the patches. At a border fewer patches surround.

    Source: the centre-surround differences of Itti, Koch, Niebur 1998, at one scale.

    >>> print(salience(jnp.zeros((1, 3, 3, 1)).at[0, 1, 1].set(1.0), radius=1)[0].round(3))
    [[0.333 0.2   0.333]
     [0.2   1.    0.2  ]
     [0.333 0.2   0.333]]
    """
    if features.ndim != 4 or radius < 1 or max(features.shape[1:3]) < 2:
        raise ValueError(f"features of shape {features.shape}, radius = {radius}: give [B, H, W, C], two patches, 1")
    window = (1, 2 * radius + 1, 2 * radius + 1, 1)

    def total(x):
        return jax.lax.reduce_window(x, jnp.zeros((), x.dtype), jax.lax.add, window, (1, 1, 1, 1), "SAME")

    count = total(jnp.ones((1, *features.shape[1:3], 1), features.dtype)) - 1.0
    off = features - (total(features) - features) / count
    square = jnp.sum(off**2, axis=-1)
    return jnp.where(square > 0.0, jnp.sqrt(jnp.where(square > 0.0, square, 1.0)), 0.0)


def query_match(features: jax.Array, query: jax.Array) -> jax.Array:
    """cos(feature, query) of every patch, in [−1, 1]: [B, H, W, C] and [C] or [B, C] → [B, H, W]; 0 for a zero vector.

    >>> query_match(jnp.array([[[[1.0, 0.0], [0.0, 2.0]]]]), jnp.array([3.0, 0.0])).tolist()
    [[[1.0, 0.0]]]
    """
    if features.ndim != 4 or query.shape not in (features.shape[-1:], (features.shape[0], features.shape[-1])):
        raise ValueError(f"features {features.shape}, query {query.shape}: give [B, H, W, C] and [C] or [B, C]")
    asked = query.reshape((-1, 1, 1, query.shape[-1]))
    product = jnp.sum(features * asked, axis=-1)
    squares = jnp.sum(features**2, axis=-1) * jnp.sum(asked**2, axis=-1)
    some = squares > 0.0
    return jnp.where(some, product / jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)


# --- free energy -----------------------------------------------------------------------------------------------------
def free_energy(relevance: ArrayLike, energy: ArrayLike) -> jax.Array:
    """F = E_q[energy] − H(q) = KL(q‖Gibbs) − log Σ e^{−energy}, nats: [..., H, W] → [...].

    Its least value, −log Σ e^{−energy}, is that of the Gibbs map `as_gibbs(energy)`: relevance that follows scores at
    the price of its entropy. At temperature T give energy/T; F is then in units of T.

    >>> print(free_energy(jnp.full((2, 2), 0.25), jnp.zeros((2, 2))).round(4), -jnp.log(4.0).round(4))
    -1.3863 -1.3863
    """
    q = check_map("relevance", relevance)
    cost = _fitted("energy", energy, q)
    return jnp.sum(jnp.where(q > 0.0, q * jnp.where(q > 0.0, cost, 0.0), 0.0) - entr(q), axis=(-2, -1))


def as_gibbs(energy: jax.Array) -> jax.Array:
    """The Gibbs map ∝ e^{−energy}, [..., H, W], where `free_energy` is least."""
    return jax.nn.softmax(-energy, axis=(-2, -1))
