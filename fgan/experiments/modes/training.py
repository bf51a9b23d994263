"""The fits: Gaussian generators trained by f-GANs on mixtures, all seeds at once, the critic polished afterwards."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from estimators.critics.kernel import steps
from estimators.critics.networks import MLP
from estimators.distributions.mixture import Mixture
from estimators.divergences.bounds import fenchel
from estimators.divergences.generator import SMOOTHING, FDivergence
from estimators.divergences.table import divergence
from fgan.models.gan import FGAN
from fgan.models.objectives import objective
from fgan.models.players import Critic, Generator
from fgan.networks.generators import Affine, LocationScale, factor

SEEDS = (0, 1, 2)
STEPS, BATCH = 1500, 768
POLISH_STEPS, POLISH_BATCH = 500, 2048
START = (1.0, 1.5)  # (μ, σ) of the generator before training
PLANE_STEPS = 2500
PLANE_START = ((-0.5, 0.5), 1.15)  # (μ, σ); from 0 reverse_kl stays at a saddle, from narrower ones pearson can run off


class Fit(NamedTuple):
    """Trained generators and polished critics, one a seed."""

    mu: np.ndarray
    sigma: np.ndarray
    critic: Any
    skipped: np.ndarray


class PlaneFit(NamedTuple):
    """Trained Gaussians in the plane, one a seed: mu [seeds, 2], covariance [seeds, 2, 2]."""

    mu: np.ndarray
    covariance: np.ndarray
    skipped: np.ndarray


def critic_for(d: FDivergence) -> MLP:
    """The critic network: silu units, whose linear tails can follow log p/q as far as the samples reach.

    neyman alone has tanh units: its T = 1 − (q/p)² is averaged over P, where it has no lower bound, and linear tails
    turn rare samples into steps that throw the pair off (an excess of 1e-2 and more was seen).
    """
    return MLP((64, 32), "tanh" if d.name == "neyman" else "silu")


def steps_for(dim: int) -> int:
    """Steps of a training in that many dimensions."""
    return STEPS if dim == 1 else PLANE_STEPS


def fgan_for(d: FDivergence, dim: int = 1) -> FGAN:
    """The f-GAN of this experiment under `d`: one preset, but for `critic_for` and the divergences with a kink."""
    n = steps_for(dim)
    trained = d if d.smooth else divergence("js")
    generator_optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, n, 0.02), b1=0.5, b2=0.9)
    critic_optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, n, 0.1), b1=0.5, b2=0.99)
    network = LocationScale() if dim == 1 else Affine(dim)
    return FGAN(
        divergence=d,
        generator=Generator(network=network, inputs=dim, optimizer=generator_optimizer, average=0.995),
        critic=Critic(network=critic_for(d), inputs=dim, optimizer=critic_optimizer, divergence=trained),
        batch=BATCH,
        objective=objective("minimax", d, trained),
    )


def program_for(target: Mixture, d: FDivergence, *, polished: bool = True) -> Callable[..., Any]:
    """(seeds, start) → (generators, critics, steps left out): generator parameters trained under `d` from `start`,
    the critic polished (on the line), all seeds at once."""
    gan, n = fgan_for(d, target.dim), steps_for(target.dim)

    def draw(key):
        return target.sample(key, BATCH)[None]

    def alone(seed, start):
        key = jax.random.key(seed)
        state = gan.init(jax.random.fold_in(key, n))._replace(generator=start, average=start)
        state, metrics = steps(gan.advance, draw, key, state, 0, n, noise=gan.noise)
        critic = state.critic
        if polished:
            critic = polish(jax.random.fold_in(key, n + 1), critic, target, state.average["params"], d)
        return state.average["params"], critic, jnp.sum(metrics["skipped"])

    return jax.jit(jax.vmap(alone, in_axes=(0, None)))


def fit(
    target: Mixture, d: FDivergence, starts: Sequence[tuple[float, float]], seeds: Sequence[int] = SEEDS, **options
) -> list[Fit]:
    """A Fit from each start (μ, σ), one after the other in one compiled program."""
    program = program_for(target, d, **options)
    fits = []
    for mu, sigma in starts:
        start = {"params": {"mu": jnp.float32(mu), "log_sigma": jnp.log(jnp.float32(sigma))}}
        found, critic, skipped = jax.block_until_ready(program(jnp.asarray(seeds, jnp.uint32), start))
        sigmas = np.asarray(jnp.exp(found["log_sigma"]), float)
        fits.append(Fit(np.asarray(found["mu"], float), sigmas, critic, np.asarray(skipped)))
    return fits


def fit_plane(target: Mixture, d: FDivergence, seeds: Sequence[int] = SEEDS) -> PlaneFit:
    """Gaussians of any covariance trained on a target in the plane from N(μ, σ²I) of PLANE_START."""
    mu, sigma = PLANE_START
    start = {"params": {"mu": jnp.asarray(mu, jnp.float32), "root": math.log(sigma) * jnp.eye(2)}}
    program = program_for(target, d, polished=False)
    found, _, skipped = jax.block_until_ready(program(jnp.asarray(seeds, jnp.uint32), start))
    factors = np.asarray(jax.vmap(factor)(found["root"]), float)
    return PlaneFit(np.asarray(found["mu"], float), factors @ factors.swapaxes(1, 2), np.asarray(skipped))


def polish(key: jax.Array, critic: Any, target: Mixture, model: dict[str, jax.Array], d: FDivergence) -> Any:
    """Critic parameters trained on under `d`'s own bound, with the generator held at `model`, its parameters."""
    network = critic_for(d)
    if not d.smooth:  # a step in the js critic's ℓ, steeper than the generator's, starts the critic of the bound
        last = f"Dense_{len(network.features)}"
        steeper = jax.tree.map(lambda w: 4.0 * w / SMOOTHING, critic["params"][last])
        critic = {"params": critic["params"] | {last: steeper}}
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, POLISH_STEPS, 0.01), b1=0.9, b2=0.99)
    mu, sigma = model["mu"], jnp.exp(model["log_sigma"])

    def draw(key):
        p, q = jax.random.split(key)
        x_q = mu + sigma * jax.random.normal(q, (POLISH_BATCH, 1))
        return jnp.concatenate([target.sample(p, POLISH_BATCH), x_q])

    def step(_, state, x):
        def loss(parameters):
            v = network.apply(parameters, x)
            return -fenchel(d, v[:POLISH_BATCH], v[POLISH_BATCH:])

        parameters, moments = state
        change, moments = optimizer.update(jax.grad(loss)(parameters), moments, parameters)
        return (optax.apply_updates(parameters, change), moments), {}

    (critic, _), _ = steps(step, draw, key, (critic, optimizer.init(critic)), 0, POLISH_STEPS)
    return critic
