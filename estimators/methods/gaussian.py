"""Divergences between the Gaussians fitted to two sample sets: exact where the data are Gaussian, wrong elsewhere.

Mean and covariance of each set stand for it, and D_f is that of the fitted pair: by closed form where there is one,
else as an average over quasi-random draws of M = ½(P + Q), E_M[2 f(r) / (1 + r)], whose weights are bounded. What the
fit itself adds to D_f is taken off, for the Kullback–Leibler family exactly and for the rest by the jackknife, which
leaves out blocks of rows (whole groups where there are groups) and gives the standard error too. All is float64.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import digamma, ndtr, ndtri, stdtrit

from estimators.contract import Fit, Interval, Request
from estimators.density_ratio.references import GaussianDensity
from estimators.density_ratio.whitening import FLAT, Whitening
from estimators.divergences.generator import FDivergence
from estimators.divergences.perspective import log_perspective
from estimators.divergences.table import DIVERGENCES
from estimators.exact_values.gaussian import closed_form
from estimators.samples.arrays import DataError

METHODS = {"gaussian": "the divergence between the Gaussians fitted to the sets, its bias removed"}
BLOCKS = 40  # left out in turn, of each set
UNLIKELY = 1e-3  # p-value of Mardia's test below which a sample set is called not Gaussian
SCRAMBLES, POINTS, FEW = 16, 1024, 2  # scrambled Sobol sets of draws, their size, and how many serve the jackknife


class GaussianFit(NamedTuple):
    """A Gaussian fitted to n rows: mean [d], unbiased covariance [d, d] and its lower Cholesky factor."""

    n: int
    mean: np.ndarray
    covariance: np.ndarray
    factor: np.ndarray

    @classmethod
    def from_rows(cls, rows: np.ndarray) -> Self:
        """Raises numpy.linalg.LinAlgError where the rows [n, d] lie on a plane."""
        mean = rows.mean(axis=0)
        centred = rows - mean  # one array, so that the product is symmetric to the last bit
        return cls.from_sums(len(rows), np.zeros(len(mean)), centred.T @ centred, mean)

    @classmethod
    def from_sums(cls, n: int, total: np.ndarray, products: np.ndarray, origin: np.ndarray) -> Self:
        """The fit to n rows with the sum `total` [d] and the sum of products [d, d] about `origin`.

        So a fit without some of the rows costs only their sums. Raises numpy.linalg.LinAlgError as `from_rows`.
        """
        shift = total / n
        covariance = (products - n * np.outer(shift, shift)) / (n - 1)
        return cls(n, origin + shift, covariance, np.linalg.cholesky(covariance))

    def log_det(self) -> float:
        """log |Σ|, unbiased for Gaussian rows."""
        return float(2.0 * np.log(np.diagonal(self.factor)).sum() - self._log_det_bias())

    def unbiased_density(self) -> GaussianDensity:
        """A log density that is unbiased at any fixed point, but for the error of the mean; for n > d + 2.

        E[S⁻¹] = (n − 1)/(n − d − 2) Σ⁻¹ for Gaussian rows with sample covariance S.
        Source: Muirhead 1982, theorem 3.2.12.
        """
        n, d = self.n, len(self.mean)
        plain = GaussianDensity.of(self.mean, self.covariance)
        shrunk = plain.whiten * np.sqrt((n - d - 2.0) / (n - 1.0))
        return GaussianDensity(self.mean, shrunk, plain.log_peak + 0.5 * self._log_det_bias())

    def _log_det_bias(self) -> float:
        """E log |S| − log |Σ| = Σ_j ψ((n − j)/2) + d log(2/(n − 1)), j = 1…d. Source: Muirhead 1982, theorem 3.2.15."""
        d = len(self.mean)
        return float(np.sum(digamma(0.5 * (self.n - np.arange(1, d + 1)))) + d * np.log(2.0 / (self.n - 1.0)))


Pair = tuple[GaussianFit, GaussianFit]


def estimate(request: Request) -> Fit:
    """D_f(P‖Q) for each divergence of `request`, between the Gaussians fitted to both sets, less the bias of fitting.

    The interval is value ± Student's quantile × standard error. The two sets are taken as independent.

    Raises DataError: a set with no more rows than dimensions + 2, or flat in a direction in which the other varies.
    """
    request.require_numbers()
    x, y, grouped = request.x, request.y, request.groups is not None
    space = Whitening.fit(x, y)
    u, v = space(x), space(y)
    p, q = fit(u, "P"), fit(v, "Q")
    labels = request.groups or (None, None)
    sides = zip((u, v), (p, q), labels, strict=True)
    left_out = [list(_left_out(rows, whole, label, request.seed)) for rows, whole, label in sides]
    pairs = [(p, q), *((b, q) for b in left_out[0]), *((p, b) for b in left_out[1])]
    values, noise = _table(pairs, (*request.divergences, DIVERGENCES["jeffreys"]), request.seed)
    steps = len(left_out[0])
    quantile = float(stdtrit(min(map(len, left_out)) - 1, 0.5 + 0.5 * request.confidence))
    both_ways, error = _jackknife(values[:, -1], steps, correct=grouped)
    apart = both_ways > quantile * error  # else no interval leaves 0 out, not even at a kink there
    density_p, density_q = (GaussianDensity.of(g.mean, g.covariance) for g in (p, q))
    normality = {"mardia_p": mardia(u, density_p), "mardia_q": mardia(v, density_q)}
    unlikely = " and ".join(f"{name} = {p:.2g}" for name, p in normality.items() if p < UNLIKELY)
    cautions = (
        "assumes that both sets are Gaussian: the value is that of the fitted Gaussians, not a lower bound",
        unlikely and f"not Gaussian: Mardia's kurtosis test has p-values {unlikely}; use another method",
        space.flatness(),
    )

    def interval(d: FDivergence, values: np.ndarray, noise: float) -> Interval:
        value, error = _jackknife(values, steps, correct=grouped or not _unbiased(d))
        around = Interval.around(value, math.hypot(error, noise), quantile, d.value_at_one, d.upper_limit())
        return around._replace(
            low=around.low if apart else d.value_at_one,
            warnings=tuple(filter(None, (*cautions, _edge(d, values, noise)))),
            diagnostics={"plug_in": float(values[0]), "draw_error": noise},
        )

    return Fit(
        request.method,
        [interval(d, values[:, j], float(noise[j])) for j, d in enumerate(request.divergences)],
        lambda points: density_p(space(points)) - density_q(space(points)),
        diagnostics={**normality, "rank": space.rank},
    )


def fit(rows: np.ndarray, name: str) -> GaussianFit:
    """The Gaussian of whitened `rows` [n, d]. Raises DataError where n ≤ d + 2, or where they are flat."""
    n, d = rows.shape
    if n <= d + 2:
        raise DataError(f"{n} rows of {name} in {d} dimensions: a Gaussian fit needs more than {d + 2}; give more rows")
    with contextlib.suppress(np.linalg.LinAlgError):
        whole = GaussianFit.from_rows(rows)
        if np.linalg.eigvalsh(whole.covariance)[0] > FLAT:
            return whole
    raise DataError(
        f"the rows of {name} do not vary in a direction in which those of the other set do: a Gaussian there is "
        "singular; drop the collinear columns, or use method='knn'"
    )


def _edge(d: FDivergence, values: np.ndarray, noise: float) -> str:
    """A warning where D_f may be infinite: between the whole sets' fits (`values[0]`), without some rows, or unseen."""
    if not math.isfinite(values[0]):
        return "infinite between the fitted Gaussians, one too wide for the other; low is only the trivial bound"
    if not np.isfinite(values).all():
        return "infinite without some rows: the fitted Gaussians are at the edge where the divergence diverges"
    if noise > 0.0 and math.isinf(d.upper_limit()):
        return "no closed form and no upper limit: an average over draws may miss tails, even infinite ones"
    return ""


def mardia(rows: np.ndarray, density: GaussianDensity) -> float:
    """Two-sided p-value of Mardia's kurtosis, mean of ‖L⁻¹(z − μ)‖⁴ against d(d + 2) (Mardia 1970)."""
    n, d = rows.shape
    kurtosis = float(np.mean(density.square_distance(rows) ** 2))
    return float(2.0 * ndtr(-abs(kurtosis - d * (d + 2)) / math.sqrt(8.0 * d * (d + 2) / n)))


def _left_out(rows: np.ndarray, whole: GaussianFit, labels: np.ndarray | None, seed: int) -> Iterator[GaussianFit]:
    """The fit without each random block of the jackknife, from sums about the whole mean; what remains can be fitted.

    Rows of one label are left out together. Raises DataError: fewer than two groups, or a rest that is flat.
    """
    n, d = rows.shape
    _, group = np.unique(np.arange(n) if labels is None else labels, return_inverse=True)
    groups = group.max() + 1
    if groups < 2:
        raise DataError("one group only: nothing can be left out; give at least two groups a set, or none")
    number = min(max(BLOCKS, math.ceil(n / max(n - d - 3, 1))), groups)
    block = (np.random.default_rng(seed).permutation(groups) % number)[group]
    centred = rows - whole.mean
    products = centred.T @ centred
    for k in range(number):
        part = centred[block == k]
        left = n - len(part)
        try:
            rest = GaussianFit.from_sums(left, -part.sum(axis=0), products - part.T @ part, whole.mean)
        except np.linalg.LinAlgError:
            left = 0
        if left <= d + 2:
            raise DataError(f"without {len(part)} of {n} rows the rest are collinear; give more rows or groups")
        yield rest


def unbiased_kl(p: GaussianFit, q: GaussianFit) -> float:
    """KL(P‖Q) in nats from two Gaussian fits, unbiased for Gaussian data: E of the value is the truth.

    ½[g tr(Sq⁻¹Sp)(1 − 1/n) + g‖Lq⁻¹Δ‖² − d/m − d + log|Sq| − c(m) − log|Sp| + c(n)], with g = (m − d − 2)/(m − 1) for
    the inverse of a Wishart matrix and c(n) = Σᵢ ψ((n − i)/2) + d log(2/(n − 1)), i = 1…d, for its log-determinant.
    Source: Muirhead 1982, theorems 3.2.12 and 3.2.15.
    """
    d = len(p.mean)
    shrink = (q.n - d - 2) / (q.n - 1)
    trace = float(np.sum(solve_triangular(q.factor, p.factor, lower=True) ** 2))
    square = float(np.sum(solve_triangular(q.factor, p.mean - q.mean, lower=True) ** 2))
    quadratic = shrink * (trace * (1.0 - 1.0 / p.n) + square) - d / q.n - d
    return 0.5 * (quadratic + q.log_det() - p.log_det())


_KL: dict[str, Callable[[GaussianFit, GaussianFit], float]] = {
    "kl": unbiased_kl,
    "reverse_kl": lambda p, q: unbiased_kl(q, p),
    "jeffreys": lambda p, q: unbiased_kl(p, q) + unbiased_kl(q, p),
}


def _table(pairs: Sequence[Pair], divergences: Sequence[FDivergence], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(D_f of each pair [pairs, divergences], standard error [divergences] that the draws add to it)."""
    values, noise = np.empty((len(pairs), len(divergences))), np.zeros(len(divergences))
    closed: list[int] = []
    drawn: list[int] = []
    for j, d in enumerate(divergences):
        if _unbiased(d):
            values[:, j] = [_KL[d.name](*pair) for pair in pairs]
        else:
            (closed if closed_form(d) else drawn).append(j)
    if closed:
        chosen = tuple(divergences[j] for j in closed)
        with jax.enable_x64(True):
            forms = [_closed_forms(chosen, p.mean, p.covariance, q.mean, q.covariance) for p, q in pairs]
        values[:, closed] = np.stack([np.asarray(found) for found in forms])
    if drawn:
        values[:, drawn], noise[drawn] = _averages(pairs, [divergences[j] for j in drawn], seed)
    return values, noise


def _unbiased(d: FDivergence) -> bool:
    return d.name in _KL and DIVERGENCES[d.name] is d


@partial(jax.jit, static_argnums=0)
def _closed_forms(divergences: tuple[FDivergence, ...], *parameters: np.ndarray) -> jax.Array:
    return jnp.stack([form(*parameters) for d in divergences if (form := closed_form(d))])


def _averages(pairs: Sequence[Pair], divergences: Sequence[FDivergence], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(D_f of each pair as an average over draws [pairs, divergences], its standard error for the first pair).

    The first pair, the whole sets', is averaged over all draws; the others, whose differences alone count, over few.
    """
    from scipy.stats import qmc  # takes a second to import

    dim = len(pairs[0][0].mean)
    sobol = (qmc.Sobol(dim, rng=rng).random(POINTS) for rng in np.random.default_rng(seed).spawn(SCRAMBLES))
    normal = [ndtri(np.clip(points, 1e-12, 1.0 - 1e-12)) for points in sobol]
    whole = np.stack([log_ratios(*pairs[0], scramble) for scramble in normal])
    few = np.stack([log_ratios(*pair, np.concatenate(normal[:FEW])) for pair in pairs])
    scrambles = np.stack([mixture_average(d, whole) for d in divergences], axis=1)
    values = np.stack([mixture_average(d, few) for d in divergences], axis=1)
    values += scrambles.mean(axis=0) - values[0]
    return values, scrambles.std(axis=0, ddof=1) / math.sqrt(SCRAMBLES)


def log_ratios(p: GaussianFit, q: GaussianFit, normal: np.ndarray) -> np.ndarray:
    """log p/q at the points that `normal` [k, d] makes of P, then at those it makes of Q: [2k]."""

    def outward(g: GaussianFit, h: GaussianFit) -> np.ndarray:  # log g/h at draws of G
        shifted = normal @ g.factor.T + (g.mean - h.mean)
        white = solve_triangular(h.factor, shifted.T, lower=True)
        gain = np.log(np.diagonal(h.factor)).sum() - np.log(np.diagonal(g.factor)).sum()
        return 0.5 * (np.sum(white**2, axis=0) - np.sum(normal**2, axis=1)) + gain

    return np.concatenate([outward(p, q), -outward(q, p)])


@partial(jax.jit, static_argnums=0)
def _mixture_mean(d: FDivergence, ratios: jax.Array) -> jax.Array:
    log_p, log_q = (math.log(2.0) + jax.nn.log_sigmoid(sign * ratios) for sign in (1.0, -1.0))
    return d.value_at_one + jnp.mean(jnp.exp(log_perspective(d)(log_p, log_q)), axis=-1)


def mixture_average(d: FDivergence, ratios: np.ndarray) -> np.ndarray:
    """D_f [...] as the mean over draws [..., k] of ½(P + Q) of 2 f(r)/(1 + r), given log r there.

    f less its tangent at 1, which integrates to nothing: every term is then ≥ 0.
    """
    with jax.enable_x64(True):
        return np.array(_mixture_mean(d, jnp.asarray(ratios)))


def _jackknife(values: np.ndarray, n_p: int, correct: bool) -> tuple[float, float]:
    """(value less its bias, its standard error) by the two-sample block jackknife.

    They are D − Σ (B − 1)(mean D₋ − D) and the root of Σ (B − 1)/B Σ_b (D₋b − mean D₋)², sums over the two sides.
    `values` are those of all rows, then without each of n_p blocks of P, then without each of Q's. An infinite value
    stays what it is, with infinite error. Source: Arvesen 1969; Künsch 1989 for blocks.
    """
    whole, sides = float(values[0]), (values[1 : n_p + 1], values[n_p + 1 :])
    if not np.isfinite(values).all():
        return whole, math.inf
    bias = sum((len(side) - 1) * float(side.mean() - whole) for side in sides) if correct else 0.0
    square = sum((len(side) - 1) * float(side.var()) for side in sides)
    return whole - bias, math.sqrt(square)
