"""The variational autoencoder: a decoder p(x|z) of z ~ N(0, I), and an encoder q(z|x) that makes it trainable.

Both descend distortion + β·regulariser, which with KL(q(z|x)‖prior) and β = 1 is the negative ELBO (Kingma & Welling
2014), or climb a bound on log p(x) from several draws of z; `REGULARISERS` lists what there is. All terms are pure
functions of estimators.objectives.elbo; log-likelihoods are those of `likelihoods`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from estimators.critics.kernel import ALONE, Metrics, Replicas
from estimators.critics.networks import MLP
from estimators.divergences.bounds import Expectation
from estimators.divergences.table import divergence
from estimators.objectives import elbo
from estimators.objectives.annealing import ANNEALING
from fgan.config.fields import ConfigError
from fgan.config.schema import Config, Vae
from fgan.data.dataset import Dataset
from fgan.models.likelihoods import LIKELIHOODS, Likelihood
from fgan.models.model import keep_finite
from fgan.models.players import InPrecision, optimizer

MODELS = {"vae": "an autoencoder that climbs a bound on the likelihood"}


class VAEState(NamedTuple):
    """Everything a step changes."""

    parameters: Any
    optimizer: Any
    step: jax.Array  # updates tried so far
    skipped: jax.Array  # consecutive updates left out because something was not finite


class Terms(NamedTuple):
    """What is known of a batch of b points and k draws of z for each: the arguments of an objective."""

    log_likelihood: jax.Array  # log p(x|z) [b, k]
    z: jax.Array  # [b, k, L]
    mean: jax.Array  # of q(z|x) [b, L]
    variance: jax.Array  # [b, L]

    def log_weights(self, beta: jax.Array | float = 1.0) -> jax.Array:
        """log p(x|z) + β[log p(z) − log q(z|x)]: [b, k]."""
        return elbo.log_weights(*self, beta)

    @property
    def rate(self) -> jax.Array:
        """KL(q(z|x)‖prior): [b]."""
        return jnp.sum(elbo.kl_rate(self.mean, self.variance), axis=-1)


Objective = Callable[[Terms, jax.Array | float, Expectation], jax.Array]
"""(terms, β, mean over the batch) → what is climbed: []."""


def _rate(rate: Callable[[jax.Array, jax.Array], jax.Array], v: Vae) -> Objective:
    """E log p(x|z) − β·(a rate of each coordinate, less its free bits)."""

    def objective(terms, beta, expectation):
        paid = elbo.free_bits(rate(terms.mean, terms.variance), v.free_bits, expectation)
        return expectation(elbo.elbo(terms.log_likelihood, paid, beta))

    return objective


def _draws(bound: Callable[[jax.Array], jax.Array]) -> Objective:
    """The mean of a bound from log-weights."""
    return lambda terms, beta, expectation: expectation(bound(terms.log_weights(beta)))


def _geometric(v: Vae, dual: bool) -> Objective:
    return _rate(partial(elbo.geometric_js_rate, alpha=v.alpha, convention=v.convention, dual=dual), v)


REGULARISERS: dict[str, Callable[[Vae], Objective]] = {
    "kl": lambda v: _rate(elbo.kl_rate, v),
    "gjs": lambda v: _geometric(v, dual=False),
    "gjs_dual": lambda v: _geometric(v, dual=True),
    "importance_weighted": lambda v: _draws(elbo.importance_weighted),
    "f_bound": lambda v: _draws(partial(elbo.f_bound, d=divergence(v.divergence))),
}
"""name → the config's group → what is climbed."""


@dataclass(frozen=True, kw_only=True)
class VAE:
    """Encoder x → (mean, log variance) of q(z|x), decoder z → p(x|z), trained together by one optimiser."""

    encoder: Any
    decoder: Any
    inputs: int  # dimension of x
    latent: int
    likelihood: Likelihood
    log_deviation: float | None  # of a Gaussian likelihood; None to learn it
    objective: Objective
    weight: optax.Schedule  # step → β
    draws: int
    batch: int  # the global batch size, over all devices
    optimizer: optax.GradientTransformation
    noisy: bool  # whether `sample` draws from p(x|z); otherwise it returns the mean of it
    notes: tuple[str, ...] = ()
    replicas: Replicas = ALONE

    headline = "elbo"
    batches = 1

    def init(self, key: jax.Array) -> VAEState:
        """Fresh parameters and optimiser state."""
        e_key, d_key = jax.random.split(key)
        parameters = {
            "encoder": self.encoder.init(e_key, jnp.zeros((1, self.inputs))),
            "decoder": self.decoder.init(d_key, jnp.zeros((1, self.latent))),
        }
        if self.likelihood.learns_deviation and self.log_deviation is None:
            parameters["log_deviation"] = jnp.zeros(())
        zero = jnp.zeros((), jnp.int32)
        return VAEState(parameters, self.optimizer.init(parameters), zero, zero)

    def step(self, key: jax.Array, state: VAEState, batch: jax.Array) -> tuple[VAEState, Metrics]:
        """`advance` with noise of `key`."""
        return self.advance(self.noise(key), state, batch)

    def noise(self, key: jax.Array) -> jax.Array:
        """The noise of a step, this device's share of [batch, draws, latent]."""
        return self.replicas.shard(jax.random.normal(key, (self.batch, self.draws, self.latent)))

    def advance(self, noise: jax.Array, state: VAEState, batch: jax.Array) -> tuple[VAEState, Metrics]:
        """One ascent of the objective on `batch` [1, b, d]; `elbo`, `rate` and `distortion` are those of β = 1."""
        return keep_finite(state, *self.attempt(noise, state, batch))

    def explain(self, noise: jax.Array, state: VAEState, batch: jax.Array) -> dict[str, Any]:
        """What a step computes, by name."""
        new, metrics = self.attempt(noise, state, batch)
        before = {"data": batch, "parameters before": state.parameters, "optimizer before": state.optimizer}
        return before | metrics | {"optimizer after": new.optimizer, "parameters after": new.parameters}

    def attempt(self, noise: jax.Array, state: VAEState, batch: jax.Array) -> tuple[VAEState, Metrics]:
        """(state, metrics) after a step, finite or not."""
        beta = self.weight(state.step)

        def loss(parameters):
            terms = self.terms(parameters, noise, batch[0])
            value = self.objective(terms, beta, self.replicas.expectation)
            return -value, (value, terms)

        gradient, (value, terms) = jax.grad(loss, has_aux=True)(state.parameters)
        gradient = self.replicas.mean(gradient)
        change, moments = self.optimizer.update(gradient, state.optimizer, state.parameters)
        new = state._replace(parameters=optax.apply_updates(state.parameters, change), optimizer=moments)
        rate = self.replicas.expectation(terms.rate)
        distortion = -self.replicas.expectation(jnp.mean(terms.log_likelihood, axis=-1))
        facts = {"elbo": -(rate + distortion), "rate": rate, "distortion": distortion, "objective": value}
        return new, facts | {"weight": jnp.asarray(beta, jnp.float32)}

    def terms(self, parameters: Any, noise: jax.Array, x: jax.Array) -> Terms:
        """What the objectives take, for points x [b, d] and noise [b, k, L]."""
        mean, variance = self.encode(parameters, x)
        z = elbo.draws(noise, mean, variance)
        outputs = self.decode(parameters, z.reshape(-1, self.latent)).reshape(*z.shape[:2], -1)
        log_likelihood = self.likelihood.log_prob(outputs, self.deviation(parameters), x[:, None])
        return Terms(log_likelihood, z, mean, variance)

    def encode(self, parameters: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(mean, variance) of q(z|x): [n, d] → [n, L] each."""
        mean, log_variance = jnp.split(self.encoder.apply(parameters["encoder"], x), 2, axis=-1)
        return mean, jnp.exp(log_variance)

    def decode(self, parameters: Any, z: jax.Array) -> jax.Array:
        """The outputs that p(x|z) is made of: [n, L] → [n, d]."""
        return self.decoder.apply(parameters["decoder"], z)

    def deviation(self, parameters: Any) -> jax.Array:
        """log σ of a Gaussian likelihood, 0 where there is none: []."""
        return parameters.get("log_deviation", jnp.asarray(self.log_deviation or 0.0))

    def sample(self, state: VAEState, key: jax.Array, n: int) -> jax.Array:
        """n points [n, d] of the model; of images the means of p(x|z), without the noise of the pixels."""
        z_key, x_key = jax.random.split(key)
        z = jax.random.normal(z_key, (n, self.latent))
        x = self.likelihood.mean(self.decode(state.parameters, z))
        if not self.noisy:
            return x
        return x + jnp.exp(self.deviation(state.parameters)) * jax.random.normal(x_key, x.shape)

    def reconstruct(self, state: VAEState, x: jax.Array) -> jax.Array:
        """E[x|z] at the mean z of q(z|x): [n, d] → [n, d]."""
        mean, _ = self.encode(state.parameters, x)
        return self.likelihood.mean(self.decode(state.parameters, mean))


def build(config: Config, data: Dataset, replicas: Replicas = ALONE) -> VAE:
    """The VAE that `config` describes. Raises ConfigError for data that the likelihood is not for."""
    v = config.vae
    if v.likelihood == "bernoulli" and not data.side:
        raise ConfigError(f"vae.likelihood = bernoulli: {data.name} are no images; set vae.likelihood = gaussian")
    if data.one_hot:
        raise ConfigError("model = vae: a gaussian has no categories; drop these columns, or set model = fgan")
    likelihood = LIKELIHOODS[v.likelihood]
    rise = ANNEALING[v.annealing](config.horizon, v.rise, v.cycles)
    images = bool(data.side)
    return VAE(
        encoder=_network(v, v.features, 2 * v.latent, config),
        decoder=_network(v, v.features[::-1], data.dim, config),
        inputs=data.dim,
        latent=v.latent,
        likelihood=likelihood,
        log_deviation=math.log(v.deviation) if v.deviation else None,
        objective=REGULARISERS[v.regulariser](v),
        weight=lambda step: v.weight * rise(step),
        draws=v.draws,
        batch=config.batch,
        optimizer=optimizer(config.generator_optimizer, config.horizon),
        noisy=likelihood.learns_deviation and not images,
        notes=(f"vae: climbs {_words(v)}", *["samples: means of p(x|z)"] * images),
        replicas=replicas,
    )


def _network(v: Vae, features: tuple[int, ...], outputs: int, config: Config) -> Any:
    network = MLP(features, v.nonlinearity, outputs)
    return network if config.compute == "float32" else InPrecision(network, jnp.dtype(config.compute))


def _words(v: Vae) -> str:
    """What is climbed, in words."""
    by_draws = {"importance_weighted": "the importance-weighted bound", "f_bound": f"the bound of {v.divergence}"}
    if v.regulariser in by_draws:
        return f"{by_draws[v.regulariser]}, {v.draws} draws of z"
    names = {
        "gjs": "the geometric Jensen–Shannon divergence",
        "gjs_dual": "the dual geometric Jensen–Shannon divergence",
    }
    regulariser = names.get(v.regulariser, v.regulariser)
    return "the ELBO" + (f" with {regulariser} for its KL" if v.regulariser in names else "")
