"""Mode covering against mode seeking: a Gaussian generator on mixtures, on the line and in the plane.

Reproduces and extends table 4 of Nowozin, Cseke, Tomioka 2016. The generator μ + σz, in the plane μ + Lz, and a critic
are trained against each other with the named divergence's own bound, never by quadrature; then, on the line, the critic
alone is polished at the fixed generator, and everything is measured against exact values: the minimiser, the divergence
at the fit, and the critic's bound, each by float64 quadrature.

total_variation is the exception, and the results say so: its optimal critic is a step that gives the generator no
gradient. A js-trained log-ratio ℓ leads the generator through the smoothed step −½ E_Q tanh(ℓ/τ), and a critic under
the bound of total variation itself is fitted afterwards.
"""

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from estimators.distributions.examples import FGAN_MIXTURE, RIDGE, TWO_MODES
from estimators.divergences.table import divergence
from estimators.exact_values.fits import best_gaussian
from fgan.experiments.modes import picture, table, training
from fgan.experiments.modes.measurement import cross_table, measure, measure_plane, two_modes_row
from fgan.experiments.modes.training import SEEDS, START, fit, fit_plane
from fgan.experiments.plots import drawn
from fgan.experiments.tables import NAMES
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"modes": "a Gaussian fitted to 1-D mixtures under eleven divergences, beside the exact optimum"}
SIDES = ((-1.5, 1.0), (1.5, 1.0))  # (μ, σ) before training on two equal modes
PLANE_NAMES = ("kl", "reverse_kl", "js", "jeffreys", "pearson")  # the paper's five


def results(directory: Path, *, names: Sequence[str] = NAMES, quiet: bool = False) -> dict[str, Any]:
    """Run the experiment, write modes.json in `directory` row by row, and return what it holds.

    The fits run side by side, one a core, since a network this small keeps no more than one busy.
    """
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"rows": [], "cross_table": [], "two_modes": [], "plane": [], "seconds": None}
    result["target"] = {"weights": FGAN_MIXTURE.weights, "means": FGAN_MIXTURE.means, "sigmas": FGAN_MIXTURE.sigmas}
    result["settings"] = {
        name.lower(): getattr(training, name)
        for name in ("STEPS", "PLANE_STEPS", "BATCH", "POLISH_STEPS", "POLISH_BATCH")
    }
    result["paper"] = table.PAPER
    pair = [divergence(name) for name in ("kl", "reverse_kl")]
    total = len(names) + 2 + len(PLANE_NAMES)
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
    with Reporter(total, quiet=quiet, unit="part") as report, ExitStack() as stack:
        stack.callback(pool.shutdown, cancel_futures=True)  # if we are interrupted, what still waits is dropped
        fits = [pool.submit(fit, FGAN_MIXTURE, divergence(name), [START]) for name in names]
        others = [pool.submit(fit, TWO_MODES, d, SIDES, polished=False) for d in pair]
        planar = [(d, pool.submit(fit_plane, RIDGE, d)) for d in map(divergence, PLANE_NAMES)]
        for done, (name, fitted) in enumerate(zip(names, fits, strict=True), 1):
            d = divergence(name)
            row = measure(FGAN_MIXTURE, d, fitted.result()[0], SEEDS, best_gaussian(FGAN_MIXTURE, d))
            result["rows"].append(row)
            write(directory, result)
            report.advance(done, f"{name}: excess {row['excess']:.1e}")
        result["cross_table"] = cross_table(FGAN_MIXTURE, result["rows"])
        report.advance(len(names) + 1, "cross table")
        result["two_modes"] = [
            two_modes_row(d, start, fitted)
            for d, found in zip(pair, others, strict=True)
            for start, fitted in zip(SIDES, found.result(), strict=True)
        ]
        report.advance(len(names) + 2, "two modes")
        for done, (d, found) in enumerate(planar, len(names) + 3):
            row = measure_plane(RIDGE, d, found.result(), SEEDS)
            result["plane"].append(row)
            write(directory, result)
            report.advance(done, f"{d.name} in the plane: excess {row['excess']:.1e}")
    result["seconds"] = time.monotonic() - begun
    write(directory, result)
    return result


def write(directory: Path, result: dict[str, Any]) -> None:
    """Write modes.json, with null for what is not finite."""
    finite = json.loads(json.dumps(result), parse_constant=lambda constant: None)
    text = json.dumps(finite, indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(directory / "modes.json", text + "\n")


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table.text(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "modes.json"
    return [*drawn(picture.draw, path), path]
