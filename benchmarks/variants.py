"""The variants of the preset of `fgan reproduce ring | grid`: each changes one thing, and says what.

A variant is data: the fields of the config that differ from the preset's, by dotted name, and where the thing is not
of `fgan` at all, the f-GAN to train instead (`benchmarks.stabilisers`). Adding one is an entry of `VARIANTS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.stabilisers import packed, relativistic
from fgan.config.schema import Config
from fgan.experiments.mode_capture import TASKS, preset
from fgan.models.gan import FGAN


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The preset with one thing changed.

    Attributes:
        part: of the preset that it is about.
        says: what is changed, in words.
        fields: dotted name → value, of the config.
        wrap: the f-GAN that the config builds → the one to train.
    """

    part: str
    says: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    wrap: Callable[[FGAN], FGAN] | None = None


AS_MEASURED = {"game.objective": "kl_gradient", "game.generator_batches": 1, "critic.output_bound": 2.0}
"""The preset of 2026-11-22, which the committed runs vary, where the shipped one has changed since."""


def configured(variant: str, task: str, divergence: str, *, steps: int, seed: int = 0) -> Config:
    """The training run of a variant."""
    config = preset(TASKS[task], divergence, seeds=1)
    return with_fields(config, {**AS_MEASURED, **VARIANTS[variant].fields, "seed": seed, "steps": steps})


def with_fields(config: Config, fields: Mapping[str, Any]) -> Config:
    """`config` with the fields of these dotted names replaced."""
    for dotted, value in fields.items():
        group, _, name = dotted.rpartition(".")
        change = {name: value}
        config = dataclasses.replace(
            config, **{group: dataclasses.replace(getattr(config, group), **change)} if group else change
        )
    return config


# ---------------------------------------------------------------------------------------------------------------------

NO_NOISE = {"instance_noise.start": 0.0}
NO_PENALTY = {"penalty.names": ()}
UNWEIGHTED = {"game.normalise": False}
NEVER_HELD = {"instance_noise.overlap": (1e9, 1e9)}
"""A bound that is never reached, so that the noise falls by its schedule alone."""

PENALISED = ("r1", "r2", "r1_r2", "jsd", "geometric_jsd", "first_variation", "wgan_gp", "dragan")
INSTEAD = ("r1_r2", "jsd", "geometric_jsd", "first_variation")
"""Penalties in place of the preset's that are tried without the noise too."""


def _penalty(name: str, on: str = "critic") -> dict[str, Any]:
    """Another penalty in place of the preset's, as heavy and fading as that."""
    return {"penalty.names": (name,), "penalty.on": on}


def _both(name: str, value: Any) -> dict[str, Any]:
    """The same change to both optimisers."""
    return {f"{player}_optimizer.{name}": value for player in ("generator", "critic")}


def _row(part: str, says: str, *changes: Mapping[str, Any], wrap: Callable[[FGAN], FGAN] | None = None) -> Variant:
    return Variant(part=part, says=says, fields={k: v for c in changes for k, v in c.items()}, wrap=wrap)


VARIANTS: Mapping[str, Variant] = {
    "preset": _row("", "the preset of 2026-11-22: gradient of kl, one generator batch, output bound 2"),
    # noise
    "no noise": _row("noise", "no noise, the penalty alone", NO_NOISE),
    "no noise, no penalty": _row("noise", "neither noise nor penalty", NO_NOISE, NO_PENALTY),
    "noise by schedule": _row("noise", "the noise falls within 0.3 of the steps, whatever the bound", NEVER_HELD),
    "noise by slow schedule": _row(
        "noise", "the noise falls within 0.9 of the steps", NEVER_HELD, {"instance_noise.fall": 0.9}
    ),
    "overlap held": _row(
        "noise", "the bound that holds the noise does not relax", {"instance_noise.overlap": (0.02, 0.02)}
    ),
    # objective
    "minimax": _row("objective", "the divergence's own gradient, normalised", {"game.objective": "minimax"}),
    "alternative": _row("objective", "maximise E_Q[T], normalised", {"game.objective": "alternative"}),
    "kl_gradient, not normalised": _row("objective", "neither loss is normalised", UNWEIGHTED),
    "minimax, not normalised": _row(
        "objective", "the divergence's own gradient, neither loss normalised", {"game.objective": "minimax"}, UNWEIGHTED
    ),
    # generator
    "no average": _row("generator", "samples from the last generator", {"generator.average": 0.0}),
    "average 0.999": _row("generator", "a longer moving average", {"generator.average": 0.999}),
    "generator gain 1": _row("generator", "units no steeper than usual", {"generator.gain": 1.0}),
    "generator relu": _row(
        "generator", "relu units, of gain 1", {"generator.nonlinearity": "relu", "generator.gain": 1.0}
    ),
    "no linear path": _row("generator", "hidden layers alone", {"generator.linear": 0}),
    # critic
    "no frequencies": _row("critic", "no Fourier features", {"critic.frequencies": 0}),
    "critic gain 1": _row("critic", "units no steeper than usual", {"critic.gain": 1.0}),
    "critic tanh": _row("critic", "tanh units", {"critic.nonlinearity": "tanh"}),
    "no output bound": _row("critic", "raw outputs", {"critic.output_bound": 0.0}),
    "paper activation": _row("critic", "output activation of the f-GAN paper", {"critic.activation": "paper"}),
    # optimisers
    "b1 0.5": _row("optimisers", "Adam's first decay 0.5, both players", _both("b1", 0.5)),
    "b2 0.9": _row("optimisers", "Adam's second decay 0.9, both players", _both("b2", 0.9)),
    "critic rate x2": _row(
        "optimisers", "two time scales: the critic's rate doubled", {"critic_optimizer.learning_rate": 2e-3}
    ),
    "critic rate x0.5": _row(
        "optimisers", "two time scales: the critic's rate halved", {"critic_optimizer.learning_rate": 5e-4}
    ),
    "critic rate to 0": _row(
        "optimisers", "the critic's rate ends at 0, as the generator's", {"critic_optimizer.final": 0.0}
    ),
    "generator rate by cosine": _row(
        "optimisers",
        "the generator's rate falls late",
        {"generator_optimizer.schedule": "cosine", "generator_optimizer.final": 0.0},
    ),
    "constant rates": _row("optimisers", "no schedule, both players", _both("schedule", "constant")),
    "critic steps 2": _row("optimisers", "two critic updates a step", {"game.critic_steps": 2}),
    "optimistic": _row("optimisers", "optimistic Adam, both players", _both("name", "optimistic_adam")),
    # other cures
    "packing 2": _row("other cures", "the critic sees two samples at once, no penalty", NO_PENALTY, wrap=packed),
    "relativistic": _row("other cures", "the critic sees pairs", wrap=relativistic),
    "relativistic, alternative": _row(
        "other cures", "pairs, under js RpGAN's own loss", {"game.objective": "alternative"}, wrap=relativistic
    ),
    # penalties
    "no penalty": _row("penalties", "the noise alone", NO_PENALTY),
    "roth x10": _row("penalties", "ten times the weight", {"penalty.weight": 1.0}),
    "roth constant": _row("penalties", "the weight does not fade", {"penalty.schedule": "constant"}),
    **{f"{name}": _row("penalties", f"{name} in place of roth", _penalty(name)) for name in PENALISED},
    "jsd on generator": _row("penalties", "jsd on the generator in place of roth", _penalty("jsd", "generator")),
    # instead of noise
    **{
        f"no noise, {name}": _row("instead of noise", f"{name} penalty, no noise", NO_NOISE, _penalty(name))
        for name in INSTEAD
    },
    "no noise, jsd on generator": _row(
        "instead of noise", "jsd penalty on the generator, no noise", NO_NOISE, _penalty("jsd", "generator")
    ),
    "no noise, packing 2": _row(
        "instead of noise", "packs of two, neither noise nor penalty", NO_NOISE, NO_PENALTY, wrap=packed
    ),
    "no noise, relativistic": _row(
        "instead of noise", "pairs, neither noise nor penalty", NO_NOISE, NO_PENALTY, wrap=relativistic
    ),
    "no noise, optimistic": _row(
        "instead of noise",
        "optimistic Adam, neither noise nor penalty",
        NO_NOISE,
        NO_PENALTY,
        _both("name", "optimistic_adam"),
    ),
    # the published game
    "plain": _row(
        "plain f-GAN",
        "no noise, no penalty, no weights, the alternative",
        NO_NOISE,
        NO_PENALTY,
        UNWEIGHTED,
        {"game.objective": "alternative"},
    ),
    **{
        f"plain minimax{name}": _row(
            "plain f-GAN",
            f"no noise, no weights, the generator descends the bound{says}",
            NO_NOISE,
            NO_PENALTY,
            UNWEIGHTED,
            {"game.objective": "minimax"},
            penalty,
        )
        for name, says, penalty in (
            ("", "", {}),
            (", jsd on generator", " and λ‖∇ₓJSD‖²", _penalty("jsd", "generator")),
            (", roth", ", roth penalty on the critic", _penalty("roth")),
        )
    },
}

ON_GRID = (
    "preset",
    "no noise",
    "minimax",
    "alternative",
    "no average",
    "generator gain 1",
    "no linear path",
    "no frequencies",
    "critic gain 1",
    "no output bound",
    "b1 0.5",
    "optimistic",
    "packing 2",
    "relativistic",
    "no penalty",
    "r1_r2",
    "jsd on generator",
    "no noise, no penalty",
    "plain",
)
"""What is tried on the grid by default."""
