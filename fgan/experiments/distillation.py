"""Distillation: a large classifier of digits teaches a small one, by seven losses at four temperatures.

Teacher and student are perceptrons on the 1,797 images of 8 × 8 pixels in scikit-learn. Each seed has a split, a
teacher and students of its own. The teacher learns from all training rows, the student from few of them, where the
teacher's opinion of wrong classes tells most (Hinton, Vinyals, Dean 2015, section 6, on soft targets as regularisers).
Every loss is blended with a tenth of the true labels, but for `hard`, which has nothing else.

    accuracy    share of right answers on held-out rows
    gain        accuracy less that of hard labels, seed by seed, so that its error is that of differences
    kl          KL(teacher‖student) at temperature 1 on held-out rows, nats: how well the teacher is imitated

decoupled_kl has the gradients of kl for a fixed teacher, so that its row is kl's up to rounding: the term that
improved_kl sets free is what tells them apart.
"""

import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.ticker import LogLocator, NullLocator

from estimators.critics.kernel import steps as scanned
from estimators.critics.networks import MLP
from estimators.objectives.distillation import LOSSES, class_costs, class_means, softened_kl, temperature_loss
from estimators.plot_style import DATA, EXACT, PALETTE, STYLE, legend_below, save
from estimators.samples.arrays import DataError
from fgan.experiments.plots import drawn
from fgan.experiments.runs import device
from fgan.experiments.tables import Column, plus_minus, summary
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

EXPERIMENTS = {"distillation": "a large classifier of digits teaches a small one: seven losses, four temperatures"}

SEEDS = (0, 1, 2, 3, 4)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
CLASSES = 10
TRAIN = 1200  # rows of the teacher; the 597 others are held out
LESSONS = 100  # rows of the student, the first of the teacher's: few, so that labels alone leave something to learn
TEACHER, STUDENT = MLP((256, 256), "relu", CLASSES), MLP((16,), "relu", CLASSES)
STEPS, BATCH, RATE = 500, 64, 5e-3
TEACHER_STEPS, TEACHER_RATE = 300, 1e-3
WEIGHT = 0.1  # of the true labels, α
TRANSPORT = {"regularisation": 0.5, "iterations": 10}
"""ε of a quarter of the largest class cost: ten iterations then leave an error of 1e-3 in the gradient, at ε = 0.2
they left a quarter of it at T = 8."""
SCORES = ("accuracy", "gain", "kl")
NAMES = ("hard", *LOSSES)


class Lesson(NamedTuple):
    """What a student sees, seeds first: images [s, n, 64], labels and the teacher's logits; and costs [s, 10, 10]."""

    images: jax.Array
    labels: jax.Array
    teacher: jax.Array
    cost: jax.Array


class Exam(NamedTuple):
    """Held-out rows, seeds first: images [s, m, 64], labels [s, m] and the teacher's logits [s, m, 10]."""

    images: jax.Array
    labels: jax.Array
    teacher: jax.Array


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(images [1797, 64] in [−1, 1], labels [1797]) of scikit-learn, in an order of the seed's own."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the 8 × 8 digits come with scikit-learn: pip install 'fgan[data]'") from None
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))
    return (pixels[order] / 8.0 - 1.0).astype(np.float32), labels[order].astype(np.int32)


def fitted(key: jax.Array, network: MLP, images: jax.Array, loss: Any, steps: int, rate: float) -> Any:
    """Parameters after `steps` of Adam on the mean of loss(rows, logits) over random rows of `images`; pure."""
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(_, state, rows):
        def mean(parameters):
            return jnp.mean(loss(rows, network.apply(parameters, images[rows])))

        parameters, moments = state
        change, moments = optimizer.update(jax.grad(mean)(parameters), moments)
        return (optax.apply_updates(parameters, change), moments), {}

    init_key, run_key = jax.random.split(key)
    parameters = network.init(init_key, images[:1])
    draw = partial(jax.random.randint, shape=(BATCH,), minval=0, maxval=images.shape[0])
    (parameters, _), _ = scanned(step, draw, run_key, (parameters, optimizer.init(parameters)), 0, steps)
    return parameters


@partial(jax.jit, static_argnames="steps")
def teachers(keys: jax.Array, images: jax.Array, labels: jax.Array, steps: int) -> jax.Array:
    """Logits [s, 1797, 10] of a teacher a seed, trained on the first `TRAIN` rows of its images [s, 1797, 64]."""

    def one(key, images, labels):
        def loss(rows, logits):
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows])

        return TEACHER.apply(fitted(key, TEACHER, images[:TRAIN], loss, steps, TEACHER_RATE), images)

    return jax.vmap(one)(keys, images, labels)


@partial(jax.jit, static_argnames="steps")
def students(
    which: jax.Array, keys: jax.Array, lesson: Lesson, exam: Exam, temperatures: jax.Array, *, steps: int
) -> tuple[jax.Array, jax.Array]:
    """(accuracy, KL to the teacher) on the exam, [temperatures, seeds], of students taught by the loss NAMES[which].

    One program for all losses, since compiling outlasts running; temperatures and seeds are members that train side by
    side.
    """

    def one(temperature, key, lesson, exam):
        means = class_means(lesson.teacher, lesson.labels, temperature)

        def loss(rows, logits):
            labels, teacher = lesson.labels[rows], lesson.teacher[rows]
            extra = {"improved_kl": {"means": means[labels]}, "wasserstein": {"cost": lesson.cost, **TRANSPORT}}
            losses = [partial(temperature_loss, weight=1.0)] + [
                partial(temperature_loss, weight=WEIGHT, loss=partial(LOSSES[name], **extra.get(name, {})))
                for name in NAMES[1:]
            ]
            return jax.lax.switch(which, losses, labels, teacher, logits, temperature)

        logits: Any = STUDENT.apply(fitted(key, STUDENT, lesson.images, loss, steps, RATE), exam.images)
        right = jnp.argmax(logits, axis=-1) == exam.labels
        return jnp.mean(right), jnp.mean(softened_kl(exam.teacher, logits))

    over_seeds = jax.vmap(one, in_axes=(None, 0, 0, 0))
    return jax.vmap(over_seeds, in_axes=(0, None, None, None))(temperatures, keys, lesson, exam)


def school(seeds: Sequence[int], steps: int) -> tuple[Lesson, Exam]:
    """Teachers trained for `steps`, and what they hand on: the rows of the students, and those that are held out."""
    images, labels = (jnp.asarray(np.stack(part)) for part in zip(*map(digits, seeds)))
    logits = teachers(_keys(seeds, 0), images, labels, steps)
    cost = np.stack([class_costs(*pair, CLASSES) for pair in zip(logits[:, :TRAIN], labels[:, :TRAIN])])
    seen = slice(None, LESSONS)
    lesson = Lesson(images[:, seen], labels[:, seen], logits[:, seen], jnp.asarray(cost, jnp.float32))
    return lesson, Exam(images[:, TRAIN:], labels[:, TRAIN:], logits[:, TRAIN:])


def results(
    directory: Path, *, seeds: Sequence[int] = SEEDS, steps: int = STEPS, quiet: bool = False
) -> dict[str, Any]:
    """Train all teachers and students, write distillation.json in `directory`, and return what it holds."""
    begun = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    lesson, exam = school(seeds, TEACHER_STEPS)
    rows: list[dict[str, Any]] = []

    with Reporter(len(NAMES), quiet=quiet, unit="loss") as report:
        for which, name in enumerate(NAMES):
            found = students(jnp.int32(which), _keys(seeds, 1), lesson, exam, jnp.asarray(TEMPERATURES), steps=steps)
            kept = slice(1) if name == "hard" else slice(None)  # hard labels know no temperature
            accuracy, kl = (np.asarray(part, float)[kept] for part in found)
            rows += _rows(name, seeds, accuracy, kl, hard=rows[:1])
            report.advance(which + 1, name)
    right = np.mean(np.argmax(exam.teacher, axis=-1) == exam.labels, axis=-1)
    result = {
        "rows": rows,
        "teacher": summary([{"accuracy": float(share)} for share in right], ["accuracy"]),
        "settings": {
            "seeds": list(seeds),
            "train": TRAIN,
            "lessons": LESSONS,
            "held_out": int(exam.labels.shape[1]),
            "teacher": TEACHER.features,
            "student": STUDENT.features,
            "steps": steps,
            "batch": BATCH,
            "weight": WEIGHT,
        },
        "aims": aims(rows),
        "device": device(),
        "seconds": time.monotonic() - begun,
    }
    write_atomic(directory / "distillation.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    return result


def _rows(name: str, seeds: Sequence[int], accuracy: np.ndarray, kl: np.ndarray, hard: list) -> list[dict[str, Any]]:
    """A row a temperature from scores [temperatures, seeds]; the gain is over the row in `hard`, itself if empty."""
    made = []
    for i, temperature in enumerate(TEMPERATURES[: len(accuracy)]):
        base = [seed["accuracy"] for seed in hard[0]["seeds"]] if hard else accuracy[i]
        each = [
            {"seed": seed, "accuracy": float(right), "gain": float(right - before), "kl": float(far)}
            for seed, right, before, far in zip(seeds, accuracy[i], base, kl[i])
        ]
        made.append(
            {"loss": name, "temperature": None if name == "hard" else temperature, "seeds": each}
            | summary(each, SCORES)
        )
    return made


def aims(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """What theory or the sources promise → whether it was seen."""
    by = {(row["loss"], row["temperature"]): row for row in rows}
    hard, soft = by["hard", None], [row for row in rows if row["loss"] != "hard"]
    twins = [(by["kl", t], by["decoupled_kl", t]) for t in TEMPERATURES]
    return {
        "every soft loss at temperatures of 4 and 8 beats hard labels by more than two standard errors": all(
            row["gain"]["mean"] > 2.0 * (row["gain"]["standard_error"] or 0.0)
            for row in soft
            if row["temperature"] >= 4.0
        ),
        "every student with a teacher is closer to it than one without": all(
            row["kl"]["mean"] < hard["kl"]["mean"] for row in soft
        ),
        "decoupled_kl trains as kl does, to 0.01 in accuracy and in KL": all(
            abs(a[score]["mean"] - b[score]["mean"]) <= 0.01 for a, b in twins for score in ("accuracy", "kl")
        ),
    }


COLUMNS = (
    Column("T", 6, lambda row: "–" if row["temperature"] is None else f"{row['temperature']:g}"),
    Column("accuracy %", 16, plus_minus("accuracy", 100, 2)),
    Column("gain, points", 16, plus_minus("gain", 100, 2)),
    Column("KL to teacher", 18, plus_minus("kl", digits=4)),
)


def table(result: dict[str, Any]) -> str:
    """The scores of every loss and temperature, and which aims were met, as text."""
    settings = result["settings"]
    lines = [
        f"Digits of 8 × 8 pixels: teacher {settings['teacher']} units on {settings['train']} rows, student "
        f"{settings['student']} on {settings['lessons']} of them; {settings['held_out']} held out, "
        f"{len(settings['seeds'])} seeds, mean ± standard error.",
        f"{'loss':<14}" + "".join(f"{c.heading:>{c.width}}" for c in COLUMNS),
        f"{'teacher':<14}{'':>6}{plus_minus('accuracy', 100, 2)(result['teacher']):>16}",
    ]
    for row in result["rows"]:
        lines.append(f"{row['loss']:<14}" + "".join(f"{c.text(row):>{c.width}}" for c in COLUMNS))
    lines += [f"{'met' if met else 'MISSED'}: {aim}" for aim, met in result["aims"].items()]
    return "\n".join(lines)


def picture(path: Path) -> Path:
    """Draw distillation.png beside a distillation.json: accuracy and KL to the teacher over the temperature."""
    result = json.loads(path.read_text(encoding="utf-8"))
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.6))
        _curves(left, result, "accuracy", 100.0)
        _curves(right, result, "kl", 1.0)
        left.axhline(100.0 * result["teacher"]["accuracy"]["mean"], **EXACT, label="teacher")
        left.set_ylabel("held-out accuracy, %")
        right.set_ylabel("KL(teacher‖student) at temperature 1, nats")
        right.set_yscale("log")
        right.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), major_formatter="{x:g}", minor_locator=NullLocator())
        settings = result["settings"]
        figure.suptitle(
            f"Distillation on digits of 8 × 8 pixels: a student of {settings['student'][0]} units sees "
            f"{settings['lessons']} rows, its teacher {settings['train']}\n"
            f"mean ± standard error over {len(settings['seeds'])} seeds",
            fontsize=11,
        )
        legend_below(figure, left, right)
        return save(figure, path.with_suffix(".png"))


def _curves(axis, result: dict[str, Any], score: str, factor: float) -> None:
    """A score of each loss over the temperature, on a scale of factors of two; a band for hard labels."""
    for i, name in enumerate(LOSSES):
        rows = [row for row in result["rows"] if row["loss"] == name]
        shift = 2.0 ** (0.06 * (i - 0.5 * (len(LOSSES) - 1)))  # so that error bars do not cover one another
        x, y = [row["temperature"] * shift for row in rows], [factor * row[score]["mean"] for row in rows]
        errors = [factor * (row[score]["standard_error"] or 0.0) for row in rows]
        axis.errorbar(x, y, errors, color=PALETTE[i], marker="os^Dvp"[i], ms=4, lw=1.2, label=name.replace("_", " "))
    hard = result["rows"][0][score]
    mean, error = factor * hard["mean"], factor * (hard["standard_error"] or 0.0)
    axis.axhspan(mean - error, mean + error, color=DATA, alpha=0.4, lw=0, label="hard labels")
    axis.set_xscale("log", base=2)
    axis.set(xlabel="temperature T", xticks=TEMPERATURES, xticklabels=[f"{t:g}" for t in TEMPERATURES])


def reproduce(name: str, directory: Path, *, quiet: bool = False) -> list[Path]:
    """Run the experiment in `directory`, print its table, and return the files made, pictures first."""
    result = results(directory, quiet=quiet)
    print(f"{table(result)}\n\n{result['seconds']:.0f} s")
    path = directory / "distillation.json"
    return [*drawn(picture, path), path]


def _keys(seeds: Sequence[int], use: int) -> jax.Array:
    return jnp.stack([jax.random.fold_in(jax.random.key(seed), use) for seed in seeds])
