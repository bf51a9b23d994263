"""Relevance maps and patch-wise KL against closed forms; token budgets against every allocation there is."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import rel_entr
from scipy import special

from estimators.exact_values import gaussian
from estimators.objectives import relevance
from estimators.objectives.relevance import (
    as_gibbs,
    as_map,
    balanced,
    free_energy,
    information,
    patches,
    patchwise_kl,
    query_match,
    salience,
    sharpened,
    weighted_kl,
)
from estimators.objectives.token_budget import allocate, water_filled

SHAPE = (2, 3, 4, 5)  # [B, H, W, C]


def random(seed: int, shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def random_map(seed: int, shape=(3, 4)) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(np.prod(shape), 0.5)).reshape(shape)


# --- patch-wise KL ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["apart", "close"])
def test_patchwise_kl_is_that_of_gaussians(dtype, scale):
    """The house's closed form in float64, from variances; also where e^δ − 1 − δ would lose half of its digits."""
    mean, log_variance, prior_mean, prior = (random(i) for i in range(4))
    mean, log_variance = prior_mean + scale * mean, prior + scale * log_variance
    found = patchwise_kl(*(jnp.asarray(a, dtype) for a in (mean, log_variance, prior_mean, prior)))
    assert found.shape == SHAPE[:3] and found.dtype == dtype
    with jax.enable_x64(True):
        rounded = [
            np.asarray(a, dtype).astype(np.float64).reshape(-1, 5) for a in (mean, log_variance, prior_mean, prior)
        ]
        pair = rounded[0], np.exp(rounded[1]), rounded[2], np.exp(rounded[3])
        expected = jax.vmap(gaussian.kl)(*map(jnp.asarray, pair)).reshape(SHAPE[:3])
    tolerance = 1e-12 if dtype == np.float64 and scale == 1.0 else 1e-5 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(found, expected, rtol=tolerance)


def test_its_excess_is_that_of_its_series(x64):
    """e^x − 1 − x in float64 against its definition where that has digits, on both sides of the switch."""
    x = np.concatenate([np.linspace(-0.7, 0.7, 57), [-30.0, 20.0]])
    expected = np.array([sum(v**n / special.factorial(n) for n in range(30, 1, -1)) for v in x[:-2]])
    found = np.asarray(relevance._exp_excess(jnp.asarray(x)))
    np.testing.assert_allclose(found[:-2], expected, rtol=1e-13)
    np.testing.assert_allclose(found[-2:], [29.0 + np.exp(-30.0), np.expm1(20.0) - 20.0], rtol=1e-13)


def test_priors_broadcast_and_gradients_are_those_of_the_formula():
    mean, log_variance = (jnp.asarray(random(i), jnp.float32) for i in (0, 1))
    zeros = jnp.zeros(SHAPE)
    np.testing.assert_allclose(
        patchwise_kl(mean, log_variance), patchwise_kl(mean, log_variance, zeros, zeros[0, 0, 0]), rtol=1e-6
    )
    by_mean, by_log = jax.grad(lambda m, s: patchwise_kl(m, s).sum(), (0, 1))(mean, log_variance)
    np.testing.assert_allclose(by_mean, mean, rtol=1e-6)
    np.testing.assert_allclose(by_log, 0.5 * jnp.expm1(log_variance), rtol=2e-5, atol=1e-7)


def test_uniform_relevance_is_the_mean_over_patches_and_relevance_on_one_patch_is_that_patch():
    kl = jnp.asarray(np.abs(random(0, (2, 3, 4))))
    np.testing.assert_allclose(weighted_kl(kl, jnp.full((2, 3, 4), 1 / 12)), kl.mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(weighted_kl(kl, jnp.zeros((2, 3, 4)).at[:, 1, 2].set(1.0)), kl[:, 1, 2])


# --- maps ------------------------------------------------------------------------------------------------------------
def test_a_map_is_a_distribution_that_units_do_not_change():
    scores = jnp.asarray(random(0, (2, 3, 4)))
    made = as_map(scores, 0.7)
    np.testing.assert_allclose(made.sum(axis=(1, 2)), 1.0, rtol=1e-6)
    np.testing.assert_allclose(as_map(100.0 + 5.0 * scores, 0.7), made, rtol=1e-4)
    logs = np.log(made[0]) - np.log(made[0]).mean()
    np.testing.assert_allclose(logs.std(), 1.0 / 0.7, rtol=1e-5)  # standard deviations over the temperature
    assert (as_map(jnp.full((2, 2), 3.7)) == 0.25).all()
    assert np.isfinite(jax.grad(lambda s: (as_map(s) ** 2).sum())(jnp.full((2, 2), 3.7))).all()


@pytest.mark.parametrize(("kind", "forward"), [("arithmetic", True), ("geometric", False)])
def test_each_barycentre_minimises_its_own_sum_of_kl(x64, kind, forward):
    maps, weights = jnp.asarray([random_map(i) for i in range(3)]), jnp.asarray([0.5, 0.2, 0.3])
    maps = 0.9 * maps + 0.1 / 12

    def cost(b):
        pair = (maps, b[None]) if forward else (b[None], maps)
        return float(weights @ rel_entr(*jnp.broadcast_arrays(*pair)).sum(axis=(1, 2)))

    best = balanced(maps, weights, kind)
    assert float(best.sum()) == pytest.approx(1.0)
    for seed in range(20):
        assert cost(0.95 * best + 0.05 * random_map(seed)) > cost(best)


def test_a_map_of_weight_zero_has_no_say():
    maps = jnp.asarray([[[0.5, 0.5]], [[0.0, 1.0]]])
    np.testing.assert_allclose(balanced(maps, jnp.asarray([1.0, 0.0])), [[0.5, 0.5]])
    np.testing.assert_allclose(balanced(maps, jnp.asarray([0.5, 0.5])), [[0.0, 1.0]])  # one map rules the first out


def test_sharpening_is_a_change_of_temperature():
    scores = jnp.asarray(random(0, (2, 3, 4)))
    np.testing.assert_allclose(sharpened(as_map(scores, 2.0), 4.0), as_map(scores, 0.5), rtol=1e-5)


# --- scores ----------------------------------------------------------------------------------------------------------
def test_patches_are_cut_in_order():
    images = jnp.arange(2 * 5 * 7 * 2, dtype=jnp.float32).reshape(2, 5, 7, 2)
    made = patches(images, 2)
    assert made.shape == (2, 2, 3, 4, 2)
    np.testing.assert_array_equal(made[1, 1, 2].reshape(2, 2, 2), images[1, 2:4, 4:6])


def test_information_is_the_entropy_of_a_histogram():
    values = np.random.default_rng(0).uniform(size=(3, 200))
    expected = [special.entr(np.histogram(v, 16, (0, 1))[0] / 200).sum() for v in values]
    np.testing.assert_allclose(information(jnp.asarray(values)), expected, rtol=1e-5)
    assert float(information(jnp.ones(5))) == 0.0  # 1 is in the last bin


def test_salience_is_the_distance_from_the_mean_of_the_neighbours(x64):
    features = random(0, (2, 4, 6, 3))
    found = salience(jnp.asarray(features), radius=1)
    for y, x in ((0, 0), (1, 3), (3, 5)):
        window = [(j, i) for j in range(y - 1, y + 2) for i in range(x - 1, x + 2)]
        near = [features[1, j, i] for j, i in window if (j, i) != (y, x) and 0 <= j < 4 and 0 <= i < 6]
        assert float(found[1, y, x]) == pytest.approx(np.linalg.norm(features[1, y, x] - np.mean(near, axis=0)))
    flat = jnp.ones((1, 3, 3, 2))
    assert (salience(flat) == 0.0).all() and np.isfinite(jax.grad(lambda f: salience(f).sum())(flat)).all()


def test_query_match_is_the_cosine():
    features, query = random(0), random(1, (5,))
    expected = features @ query / np.linalg.norm(features, axis=-1) / np.linalg.norm(query)
    np.testing.assert_allclose(query_match(jnp.asarray(features), jnp.asarray(query)), expected, atol=1e-6)
    each = query_match(jnp.asarray(features), jnp.asarray(random(2, (2, 5))))
    np.testing.assert_allclose(
        each[1], query_match(jnp.asarray(features[1:]), jnp.asarray(random(2, (2, 5))[1]))[0], atol=1e-6
    )
    assert (query_match(jnp.zeros(SHAPE), jnp.ones(5)) == 0.0).all()


# --- free energy -----------------------------------------------------------------------------------------------------
def test_free_energy_is_kl_to_the_gibbs_map_and_a_constant(x64):
    q, energy = jnp.asarray(random_map(0)), jnp.asarray(random(1, (3, 4)))
    gibbs, constant = as_gibbs(energy), -special.logsumexp(-np.asarray(energy))
    assert float(free_energy(q, energy)) == pytest.approx(float(rel_entr(q, gibbs).sum()) + constant, abs=1e-12)
    assert float(free_energy(gibbs, energy)) == pytest.approx(constant, abs=1e-12)


# --- token budgets ---------------------------------------------------------------------------------------------------
def every_allocation(n: int, tokens: int, cap: int) -> np.ndarray:
    return np.array([a for a in itertools.product(range(min(cap, tokens) + 1), repeat=n) if sum(a) == tokens])


def costs(d: str, r: np.ndarray, allocations: np.ndarray) -> np.ndarray:
    """D(r‖n/K) from the definitions, with SciPy."""
    a = allocations / allocations[0].sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        formula = {
            "kl": lambda: special.rel_entr(r, a),
            "reverse_kl": lambda: special.rel_entr(a, r),
            "js": lambda: 0.5 * (special.rel_entr(r, 0.5 * (r + a)) + special.rel_entr(a, 0.5 * (r + a))),
            "pearson": lambda: np.where((a == 0.0) & (r == 0.0), 0.0, (r - a) ** 2 / a),
            "total_variation": lambda: 0.5 * np.abs(r - a),
        }
        return formula[d]().sum(axis=1)


@pytest.mark.parametrize(("tokens", "cap"), [(9, 9), (9, 3), (3, 3), (3, 1)])
@pytest.mark.parametrize("d", ["kl", "reverse_kl", "js", "pearson", "total_variation"])
def test_no_other_allocation_is_better(d, tokens, cap):
    """Every one of up to a few hundred; where all are infinite, the limit of n/K ≥ ε serves the most relevant first."""
    everything = every_allocation(5, tokens, cap)
    for seed in range(6):
        r = random_map(seed, (1, 5))
        found = allocate(r, tokens, d, cap=cap)
        assert found.shape == (1, 5) and found.sum() == tokens and found.max() <= cap and found.min() >= 0
        all_costs, own = costs(d, r, everything), costs(d, r, found)[0]
        if np.isfinite(all_costs).any():
            assert own == pytest.approx(all_costs.min(), rel=1e-9, abs=1e-12)
        else:
            assert (found[0] == (np.argsort(np.argsort(-r[0])) < tokens)).all()


def test_forward_spreads_and_reverse_concentrates():
    r = as_map(jnp.asarray(random(0, (1, 8, 8))), 0.5)
    for tokens in (16, 40, 100):
        forward, reverse = allocate(r, tokens, "kl"), allocate(r, tokens, "reverse_kl")
        assert (forward > 0).sum() == min(tokens, 64) > (reverse > 0).sum()
        assert forward.max() < reverse.max()
    most = np.sort(np.ravel(r))[-16]
    for d in ("kl", "reverse_kl"):
        np.testing.assert_array_equal(allocate(r, 16, d, cap=1), r >= most)


def test_maps_of_a_batch_are_allocated_each():
    r = np.stack([random_map(i) for i in range(3)])
    np.testing.assert_array_equal(allocate(r, 7)[2], allocate(r[2], 7))


@pytest.mark.parametrize("d", ["kl", "reverse_kl", "js"])
def test_over_real_numbers_every_divergence_has_the_same_optimum(d):
    r, tokens, cap = random_map(1, (1, 6)), 10.0, 3.0
    best = water_filled(r, tokens, cap)
    assert best.sum() == pytest.approx(tokens) and best.max() == pytest.approx(cap)
    own = costs(d, r, best)[0]
    rng = np.random.default_rng(0)
    for _ in range(200):
        other = best + 0.05 * (lambda noise: noise - noise.mean())(rng.normal(size=best.shape))
        if other.min() >= 0.0 and other.max() <= cap:
            assert costs(d, r, other)[0] >= own - 1e-12
    assert costs(d, r, allocate(r, 10, d, cap=3))[0] >= own


def test_water_beyond_the_relevant_patches_is_spread_evenly():
    np.testing.assert_allclose(water_filled(np.array([[1.0, 0.0, 0.0]]), 2.0, cap=1.0), [[1.0, 0.5, 0.5]])
    np.testing.assert_allclose(water_filled(np.array([[0.6, 0.4]]), 5.0), [[3.0, 2.0]])


# --- bad input -------------------------------------------------------------------------------------------------------
UNIFORM = jnp.full((1, 2, 2), 0.25)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (partial(patchwise_kl, jnp.zeros(SHAPE), jnp.zeros((3, 3))), r"log_variance of shape \(3, 3\)"),
        (partial(weighted_kl, jnp.ones((1, 2, 2)), jnp.ones((1, 2, 2))), "sum 1 over the patches"),
        (partial(weighted_kl, jnp.ones((2, 2, 2)), UNIFORM), "must be equal"),
        (partial(as_map, jnp.ones((2, 2)), 0.0), "temperature = 0.0"),
        (partial(balanced, UNIFORM, jnp.ones(2)), r"weights of shape \(2,\)"),
        (partial(balanced, UNIFORM[None], [1.0], "harmonic"), "choose from geometric, arithmetic, jensen_shannon"),
        (partial(balanced, UNIFORM[None], [2.0]), "sum to 1"),
        (partial(sharpened, UNIFORM, -1.0), "power = -1.0"),
        (partial(patches, jnp.ones((1, 4, 4, 3)), 5), "size = 5"),
        (partial(salience, jnp.ones((1, 4, 4, 3)), 0), "radius = 0"),
        (partial(query_match, jnp.ones((1, 4, 4, 3)), jnp.ones(2)), r"query \(2,\)"),
        (partial(free_energy, -UNIFORM, jnp.zeros(())), "smallest weight -0.25"),
        (partial(allocate, UNIFORM, 9, cap=2), "tokens = 9, cap = 2, 4 patches"),
        (partial(allocate, UNIFORM, 4, "no such"), "unknown divergence"),
        (partial(water_filled, UNIFORM, 0), "tokens = 0"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_under_jit_values_are_not_checked_and_shapes_are():
    assert jax.jit(weighted_kl)(jnp.ones((1, 2, 2)), UNIFORM).shape == (1,)
    with pytest.raises(ValueError, match="must be equal"):
        jax.jit(weighted_kl)(jnp.ones((2, 2, 2)), UNIFORM)


def test_patches_without_relevance_cost_nothing_and_have_finite_gradients(dtype):
    kl = jnp.asarray([[[jnp.inf, 2.0, 4.0]]], dtype)
    weights = jnp.asarray([[[0.0, 0.25, 0.75]]], dtype)
    assert float(weighted_kl(kl, weights)[0]) == 3.5
    assert jax.grad(lambda kl: weighted_kl(kl, weights)[0])(kl).tolist() == [[[0.0, 0.25, 0.75]]]
    assert float(weighted_kl(kl, jnp.asarray([[[0.5, 0.25, 0.25]]], dtype))[0]) == np.inf


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_sharpened_maps_keep_their_zeros_and_have_finite_gradients(power, dtype):
    """By the power, of the two patches that matter: s₁s₂ log(r₂/r₁)."""
    r = jnp.asarray([[0.0, 0.2, 0.8]], dtype)
    expected = np.array([0.0, 0.2**power, 0.8**power]) / (0.2**power + 0.8**power)
    np.testing.assert_allclose(sharpened(r, power)[0], expected, rtol=1e-5)
    slope = jax.grad(lambda a: sharpened(r, a)[0, 2])(power)
    assert float(slope) == pytest.approx(expected[1] * expected[2] * np.log(4.0), rel=1e-5)
    weighted = jax.grad(lambda r: sharpened(r / r.sum(), power)[0, 2])
    assert np.all(np.isfinite(jax.jit(weighted)(r)))


@pytest.mark.parametrize(("tokens", "cap", "words"), [(4.0, None, "tokens = 4.0"), (4, 2.5, "cap = 2.5")])
def test_tokens_are_whole_numbers(tokens, cap, words):
    with pytest.raises(ValueError, match=f"{words}: tokens are whole numbers; round it, or use water_filled"):
        allocate(np.full((2, 2), 0.25), tokens, cap=cap)
