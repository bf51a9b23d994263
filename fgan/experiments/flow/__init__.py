"""A neural generator of known density under six divergences: what it is trained under, measured exactly under each.

A normalising flow plays against a critic as any other generator does (Grover, Dhar, Ermon 2018, Flow-GAN), on a ring of
overlapping Gaussians and on two moons. One flow has too little capacity for them, so that the divergences disagree on
what is best; one has more. Since the density is known, three things that a GAN hides are numbers here:

    trained × measured   each divergence of the model that each divergence trained, by quadrature or Monte Carlo
    gap                  what the critic's bound lacks to the exact value, after 1000 more steps of the critic alone
    excess               the exact value less the least that the same flow reached by a direct fit, without a critic
                         (`fgan.models.direct_fit`)
"""

from collections.abc import Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any

from fgan.config.toml import to_toml
from fgan.experiments import runs
from fgan.experiments.flow import measurement, picture, table
from fgan.experiments.flow.training import MODELS, NAMES, SETUPS, TARGETS, Setup, preset
from fgan.experiments.plots import drawn
from fgan.experiments.runs import Run
from fgan.run.directory import RunDirectory

EXPERIMENTS = {"flow": "a flow of known density under six divergences, measured exactly, beside its best fit"}


def planned(directory: Path, setups: Sequence[Setup], names: Sequence[str], **options: Any) -> list[Run]:
    """Every run: each flow as an f-GAN, then by direct fit, under each divergence."""
    made = []
    for setup, model, name in product(setups, MODELS, names):
        config, variant = preset(setup, name, model, **options), "-".join((*setup, model))
        made.append(Run(config, variant, directory / RunDirectory.default_name(variant, name, config.seed)))
    return made


def results(
    directory: Path,
    *,
    setups: Sequence[Setup] = SETUPS,
    names: Sequence[str] = NAMES,
    quiet: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train what is missing, write flow.json in `directory` after every run, return what it holds."""
    made: list[Run] = planned(directory, setups, names, **options)
    facts = {
        "names": names,
        "cells": setups,
        "models": MODELS,
        "draws": measurement.DRAWS,
        "aims": {"own_is_least": table.OWN_IS_LEAST, "excess": table.EXCESS, "gap": table.CLOSE},
        "settings": {model: to_toml(preset(setups[0], "js", model, **options)) for model in MODELS},
        "device": runs.device(),
    }
    return runs.fill(directory / "flow.json", facts, made, measurement.score, measurement.SCORES, quiet)


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its tables, and return the files made, pictures first."""
    print(table.text(results(directory, quiet=quiet)))
    path = directory / "flow.json"
    shown = (drawn(picture.densities, path, target) for target in TARGETS)
    return [*chain(*shown), *drawn(picture.gaps, path), path]
