"""The flows, their targets, and the setting that trains them, the same for every divergence."""

import dataclasses
from typing import Any, NamedTuple

from fgan.config.schema import Config, Critic, Data, Game, Generator, Log, Optimizer
from fgan.experiments.mode_capture import FIRST_SEED

NAMES = ("pearson", "kl", "squared_hellinger", "js", "total_variation", "reverse_kl")
"""The divergences, from covering to seeking."""
TARGETS = ("hazy_ring", "hazy_moons")
CAPACITIES: dict[str, dict[str, Any]] = {
    "small": {"layers": 2, "features": ()},
    "large": {"layers": 4, "features": (32, 32)},
}
"""Name → what differs in the generator's config. The small flow, whose conditioners are linear, cannot represent the
targets: under every divergence it leaves some mass between their parts. Its direct fits on the moons end at one place
from every start, which those of conditioners with hidden units did not."""
MODELS = {"fgan": "f-GAN", "direct_fit": "direct fit"}
SEEDS, STEPS = 3, 4000
OUTPUT_BOUND = 6.0  # nats of log-ratio: beyond it a flow on these targets has hardly any mass
EVALUATIONS = 4  # of the exact divergence in a training


class Setup(NamedTuple):
    """A flow on a target."""

    target: str
    capacity: str

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.target.replace('_', ' ')}, {self.capacity} flow"


SETUPS = tuple(Setup(target, capacity) for capacity in CAPACITIES for target in TARGETS)


def preset(
    setup: Setup, name: str, model: str, *, steps: int = STEPS, seed: int = FIRST_SEED, seeds: int = SEEDS
) -> Config:
    """The training run of a flow under a divergence, as an f-GAN or as a direct fit of twice as many steps.

    The critic is fast: five updates a step. A flow that outruns its critic collapses onto curves too thin for the
    critic to see, and the exact divergence rises while the bound falls; octaves of frequencies let the critic see thin
    curves at all. Four batches of generated samples steady the flow's steps. Normalised weights and an output bound
    keep the steep divergences from bursting.
    """
    every = max(1, steps // 50)
    shared: dict[str, Any] = {
        "model": model,
        "divergence": name,
        "seed": seed,
        "seeds": seeds,
        "batch": 256,
        "data": Data(name=setup.target),
        "generator": Generator(kind="flow", nonlinearity="silu", average=0.99, **CAPACITIES[setup.capacity]),
    }
    descent = Optimizer(learning_rate=5e-3, b1=0.0, b2=0.99, schedule="cosine")
    if model == "direct_fit":
        rate = dataclasses.replace(descent, learning_rate=3e-3)
        log = Log(every=every, evaluate=2 * every * (steps // every), checkpoint=2 * every * (steps // every))
        return Config(steps=2 * steps, generator_optimizer=rate, log=log, **shared)
    evaluate = every * max(1, steps // (EVALUATIONS * every))
    return Config(
        steps=steps,
        critic=Critic(
            features=(128, 128),
            nonlinearity="silu",
            gain=1.4,
            frequencies=4,
            activation="log_ratio",
            output_bound=OUTPUT_BOUND,
        ),
        game=Game(critic_steps=5, generator_batches=4, normalise=True),
        generator_optimizer=descent,
        critic_optimizer=dataclasses.replace(descent, final=0.01),
        log=Log(every=every, evaluate=evaluate, checkpoint=evaluate),
        **shared,
    )
