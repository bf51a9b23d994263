"""The command line: what each command prints and writes, and how each way to fail ends: a code and one line."""

import contextlib
import errno
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from commands_for_tests import TINY, Command, Said, command
from rich.console import Console
from test_config import TABLES
from tyro.conf import Positional

import estimators as est
from estimators import estimation
from estimators.contract import Fit, Interval, Scores
from estimators.estimation import everything
from fgan.cli import divergences, reproduce
from fgan.cli.command import Base
from fgan.cli.main import COMMANDS, main
from fgan.config.schema import MODELS, Data, get, names
from fgan.config.toml import load, to_toml
from fgan.data import sources
from fgan.models.model import build
from fgan.run import loop as train
from fgan.run.directory import RunDirectory

ROOT = Path(__file__).resolve().parent.parent
RING = str(ROOT / "configs" / "ring.toml")


@pytest.fixture
def fgan(capsys) -> Command:
    """The command line in this process."""
    return command(capsys)


@pytest.fixture
def stub(monkeypatch):
    """An estimate that costs no training: what is estimated is tested elsewhere."""

    def method(request):
        numbers = 0.5 + request.seed, 0.25, np.inf, np.nan
        return Fit("stub", [Interval(*numbers, ("about all", d.name[:1])) for d in request.divergences])

    monkeypatch.setattr(estimation, "METHODS", dict.fromkeys(estimation.METHODS, method))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A config that trains in a second."""
    path = tmp_path_factory.mktemp("configs") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """A finished run; not to be changed."""
    run = tmp_path_factory.mktemp("runs") / "trained"
    with pytest.raises(SystemExit) as leaving:
        main(["train", str(tiny), "--run", str(run), "--quiet"])
    assert leaving.value.code == 0
    return run


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `fgan train` would train, and how, without doing it."""
    calls = []

    def instead(config, directory, **options):
        calls.append((config, str(directory), options))
        return train.Outcome(tmp_path, config.steps, [])

    monkeypatch.setattr(train, "train", instead)
    return calls


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[Path, Path]:
    """Two files of samples."""
    folder, rng = tmp_path_factory.mktemp("samples"), np.random.default_rng(0)
    files = folder / "p.npy", folder / "q.npy"
    for i, file in enumerate(files):
        np.save(file, rng.normal(size=(40, 2)) + i)
    return files


def assert_refused(said: Said, code: int, *parts: str) -> None:
    """One line on stderr, which holds `parts`, nothing on stdout, and the code."""
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert said.err.startswith("fgan: ") and "Traceback" not in said.err
    assert [part for part in parts if part not in said.err] == [], said.err


def strict_json(text: str):
    """The JSON in `text`; NaN and Infinity, which JSON has not, are refused."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def status(run: Path) -> dict:
    return json.loads((run / "status.json").read_text())


# --- estimate ---------------------------------------------------------------------------------------------------------

KEYS = ["divergence", "value", "low", "high", "standard_error", "method", "units", "warnings"]


@pytest.fixture
def answer(monkeypatch):
    """Hand the command line these estimates, and see what it asked for."""
    asked = []

    def give(*found: est.Estimate) -> list[tuple]:
        monkeypatch.setattr(estimation, "estimate", lambda *given, **options: asked.append((given, options)) or found)
        return asked

    return give


def estimated(scores: Scores | None = None, **diagnostics) -> est.Estimate:
    facts = {"n_p": 40, "n_q": 40, "dim": 2, "confidence": 0.95, "method": "neural", "diagnostics": diagnostics}
    return est.Estimate(divergence="kl", value=0.5, low=0.25, high=0.75, standard_error=0.1, scores=scores, **facts)


def test_estimate_prints_what_the_library_finds(fgan, pair, answer):
    asked = answer(estimated(), estimated(lower_bound=0.375))
    said = fgan("estimate", *pair, "-d", "kl", "js", "--seed", 3, "--round", 1, "--dependence", "time", "--json")
    printed = strict_json(said.out)
    assert said.code == 0 and said.err == "" and said.out.count("\n") == 1
    found = [estimated(), estimated(lower_bound=0.375)]
    (((p, q, names), options),) = asked
    assert names == ["kl", "js"] and options == {
        "method": "auto",
        "seed": 3,
        "confidence": 0.95,
        "decimals": 1,
        "dependence": "time",
    }
    np.testing.assert_array_equal([p.values, q.values], [np.load(file) for file in pair])
    assert printed == {"estimates": [e.as_json() for e in found], "n_p": 40, "n_q": 40, "dim": 2}
    assert all(set(KEYS) <= set(e) for e in printed["estimates"])
    assert all(isinstance(e[key], float) for e in printed["estimates"] for key in KEYS[1:5])


def test_infinite_and_undefined_numbers_are_null(fgan, pair, stub):
    (e,) = strict_json(fgan("estimate", *pair, "--json", "--seed", 1).out)["estimates"]
    assert [e[key] for key in KEYS] == ["kl", 1.5, 0.25, None, None, "stub", "nats", ["about all", "k"]]


def test_sets_that_are_provably_apart_are_infinite_with_the_reason(fgan, tmp_path):
    for name, value in (("p.csv", 1), ("q.csv", 2)):
        (tmp_path / name).write_text(f"{value}\n" * 12)
    said = fgan("estimate", tmp_path / "p.csv", tmp_path / "q.csv", "-d", "kl", "js", "--json")
    kl, js = strict_json(said.out)["estimates"]
    assert kl["value"] is kl["low"] is kl["high"] is None and js["value"] == pytest.approx(np.log(2.0))
    assert any("disjoint support" in warning for warning in kl["warnings"])


def test_the_table_has_a_line_a_divergence_and_each_warning_once(fgan, pair, stub):
    lines = fgan("estimate", *pair, "-d", "kl", "js", "jeffreys").out.splitlines()
    assert lines[0] == "n_p = 40, n_q = 40, dimension 2; nats; stub"
    assert lines[1].split() == ["divergence", "value", "low", "high", "std.", "error", "lower", "bound"]
    assert [line.split()[0] for line in lines[2:5]] == ["kl", "js", "jeffreys"]
    assert [line.split()[1:] for line in lines[2:5]] == [["0.5000", "0.2500", "inf", "nan", "–"]] * 3
    assert lines[5:] == ["about all", "kl: k", "js, jeffreys: j", "trust: interval covers"]


def test_the_table_shows_the_lower_bound_and_the_checks(fgan, pair, answer):
    answer(
        estimated(lower_bound=0.375),
        estimated(
            lower_bound=0.125,
            effective_sample_size_p=31.4,
            effective_sample_size_q=27.2,
            mean_ratio_on_q=1.02,
            mean_inverse_ratio_on_p=0.97,
            train_minus_held_out=0.0123,
        ),
    )
    lines = fgan("estimate", *pair).out.splitlines()
    assert [line.split()[-1] for line in lines[2:4]] == ["0.3750", "0.1250"]
    assert lines[4:] == [
        "checks: effective sample size 31 of P, 27 of Q, mean p/q on Q 1.02 (ideal 1), mean q/p on P 0.97 (ideal 1), "
        "training less held-out bound 0.0123",
        "trust: interval covers",
    ]
    answer(estimated(mean_ratio_on_q=1.5))
    assert fgan("estimate", *pair).out.splitlines()[3:] == [
        "checks: mean p/q on Q 1.5 (ideal 1)",
        "trust: interval covers",
    ]


@pytest.mark.slow
def test_a_terminal_is_told_what_estimate_does_meanwhile(fgan, pair, answer, monkeypatch):
    """Without a terminal nothing is: errors then are one line."""
    from fgan.cli import estimate as command

    assert fgan("estimate", *pair).err == ""
    terminal = partial(Console, force_terminal=True, width=200)
    monkeypatch.setattr(command, "Console", terminal)
    assert "40 and 40 rows: fitting" in fgan("estimate", *pair).err  # before, for milliseconds, what it reads


def test_groups_reach_the_estimate_as_words_or_numbers(fgan, pair, answer, tmp_path):
    words, numbers = ["ann", "bob"] * 20, np.arange(40) // 4
    (tmp_path / "p.csv").write_text("\n".join(words))
    np.save(tmp_path / "q.npy", numbers)
    asked = answer(estimated())
    said = fgan("estimate", *pair, "--groups-p", tmp_path / "p.csv", "--groups-q", tmp_path / "q.npy")
    p, q = asked[0][1]["groups"]
    assert said.code == 0 and p.tolist() == words and q.tolist() == numbers.tolist()


def test_groups_reach_the_method_numbered_alike_in_both_sets(fgan, pair, tmp_path, monkeypatch):
    seen = []

    def method(request):
        seen.extend(request.groups)
        return Fit("stub", [Interval(0.5, 0.25, 0.75, 0.1)])

    monkeypatch.setattr(estimation, "METHODS", dict.fromkeys(estimation.METHODS, method))
    (tmp_path / "p.csv").write_text("\n".join(["7", "ann"] * 20))
    np.save(tmp_path / "q.npy", np.full(40, 7))
    said = fgan("estimate", *pair, "--groups-p", tmp_path / "p.csv", "--groups-q", tmp_path / "q.npy")
    assert said.code == 0 and set(seen[0][::2]) == set(seen[1]) and set(seen[0][1::2]).isdisjoint(seen[1])


def test_groups_leave_with_the_rows_that_are_omitted(fgan, pair, answer, tmp_path):
    rows = np.load(pair[0])
    rows[3] = np.nan
    np.save(tmp_path / "p.npy", rows)
    np.save(tmp_path / "g.npy", np.arange(40))
    asked = answer(estimated())
    words = ("--groups-p", tmp_path / "g.npy", "--groups-q", tmp_path / "g.npy", "--nan-policy", "omit")
    assert fgan("estimate", tmp_path / "p.npy", pair[1], *words).code == 0
    ((p, q, _), options) = asked[0]
    left = [side.aligned(labels) for side, labels in zip((p, q), options["groups"], strict=True)]
    np.testing.assert_array_equal(left[0], np.delete(left[1], 3))


def test_groups_of_another_length_exit_3_naming_the_set(fgan, pair, tmp_path):
    np.save(tmp_path / "g.npy", np.arange(41))
    words = ("--groups-p", tmp_path / "g.npy", "--groups-q", tmp_path / "g.npy")
    assert_refused(fgan("estimate", *pair, *words), 3, "p.npy: 40 rows", "(41,)", "one label a row")


@pytest.mark.slow
@pytest.mark.parametrize("end", [".png", ".pdf", ".svg"])
def test_a_picture_is_drawn_of_the_first_estimate_that_has_one(fgan, pair, answer, tmp_path, end):
    rng = np.random.default_rng(0)
    answer(estimated(), estimated(Scores(rng.normal(size=40) + 1, rng.normal(size=40) - 1)))
    said = fgan("estimate", *pair, "--plot", tmp_path / f"picture{end}")
    assert said.code == 0 and said.out.splitlines()[-1].split() == ["picture", str(tmp_path / f"picture{end}")]
    assert (tmp_path / f"picture{end}").stat().st_size > 1000
    assert len(strict_json(fgan("estimate", *pair, "--json", "--plot", tmp_path / "p.png").out)["estimates"]) == 2


def test_no_picture_where_nothing_was_fitted_exits_2_after_the_numbers(fgan, pair, answer, tmp_path):
    answer(estimated())
    said = fgan("estimate", *pair, "--json", "--plot", tmp_path / "p.png")
    assert said.code == 2 and "--plot" in said.err and "method='neural'" in said.err and strict_json(said.out)
    assert not (tmp_path / "p.png").exists()


def test_all_divergences_at_once(fgan, pair, stub):
    answer = strict_json(fgan("estimate", *pair, "-d", "all", "--json").out)
    assert [e["divergence"] for e in answer["estimates"]] == [f.name for f in everything()]


@pytest.mark.parametrize("name", ["p q.npy", "Zwölf Kästchen.npy", "样本.npy", "-p.npy", "it's.npy", "x;rm.npy"])
def test_any_file_name_will_do(fgan, pair, stub, tmp_path, name):
    shutil.copy(pair[0], tmp_path / name)
    said = fgan("estimate", tmp_path / name, pair[1], "--json")
    assert said.code == 0 and strict_json(said.out)["n_p"] == 40


def test_options_of_reading_reach_the_readers(fgan, tmp_path, stub):
    images = np.arange(192.0).reshape(12, 4, 4)
    images[3, 0, 0] = np.nan
    np.savez(tmp_path / "p.npz", a=images, b=np.zeros(3))
    words = ("estimate", tmp_path / "p.npz", tmp_path / "p.npz", "--json", "--flatten", "--nan-policy", "omit")
    answer = strict_json(fgan(*words, "--key", "a").out)
    assert (answer["n_p"], answer["dim"]) == (11, 16)
    assert_refused(fgan(*words), 3, "--key")


def test_columns_that_are_dropped_or_categories_by_name(fgan, tmp_path, monkeypatch):
    """Any method sees codes in place of names; identifiers are refused until they are dropped."""
    seen = []
    method = lambda request: seen.append(request) or Fit("stub", [Interval(0.5, 0.4, 0.6, 0.1)])  # noqa: E731
    monkeypatch.setattr(estimation, "METHODS", dict.fromkeys(estimation.METHODS, method))
    for name, start in (("p.csv", 0), ("q.csv", 1)):
        lines = "".join(f"n{i},{70 + i * i % 3},{i * 0.7 % 3:.4f}\n" for i in range(start, 40 + start))
        (tmp_path / name).write_text("id,zip,x\n" + lines)
    words = ("estimate", tmp_path / "p.csv", tmp_path / "q.csv", "--json")
    assert_refused(fgan(*words), 3, "column 1 (id)", "--drop")
    assert_refused(fgan(*words, "--drop", "name"), 3, "no column 'name'", "id, zip, x")
    assert strict_json(fgan(*words, "--drop", "id", "--categorical", "zip").out)["dim"] == 2
    (request,) = seen
    assert request.categories == (0,) and request.x[:, 0].tolist() == [i * i % 3 for i in range(40)]
    (tmp_path / "q.csv").write_text("zip,x\n" + "".join(line.partition(",")[2] + "\n" for line in lines.split()))
    assert strict_json(fgan(*words, "--drop", "id").out)["dim"] == 2  # it is enough that one file has it
    assert_refused(fgan(*words, "--drop", "id", "name"), 3, "neither", "has a column 'name' to drop")


def test_too_few_rows_exit_3_with_the_number_needed(fgan, tmp_path):
    np.save(tmp_path / "few.npy", np.arange(9.0))
    assert_refused(fgan("estimate", tmp_path / "few.npy", tmp_path / "few.npy"), 3, "9 rows", "10 a side")


def test_a_message_cannot_steer_the_terminal(fgan):
    said = fgan("train", "a\x1b[31m\nb\u202e.toml")
    assert_refused(said, 2, r"a\x1b[31m b\u202e.toml")


# --- words that mean nothing ------------------------------------------------------------------------------------------

NONSENSE = [
    (["estimte", "p", "q"], ["unknown command 'estimte'", "did you mean estimate?"]),
    (["--bogus"], ["unknown command '--bogus'", "choose from checkpoint, compile-check, config, divergences"]),
    (["estimate"], ["P", "Q"]),
    (["estimate", "p"], ["Q"]),
    (["estimate", "p", "q", "r"], ["'r'"]),
    (["estimate", "p", "q", "--jsn"], ["did you mean --json?"]),
    (["estimate", "p", "q", "--seed", "x"], ["--seed", "'x'"]),
    (["estimate", "p", "q", "--seed"], ["--seed"]),
    (["estimate", "p", "q", "--nan-policy", "drop"], ["--nan-policy", "omit"]),
    (["estimate", "P", "Q", "-d", "kll"], ["unknown divergence 'kll'", "did you mean kl?"]),
    (["estimate", "P", "Q", "-d"], ["no divergence asked for"]),
    (["estimate", "P", "Q", "--method", "neurl"], ["unknown method 'neurl'", "neural"]),
    (["estimate", "P", "Q", "--confidence", "95"], ["confidence = 95.0", "between 0 and 1"]),
    (["estimate", "P", "Q", "--seed", "-1"], ["seed = -1"]),
    (["estimate", "-", "-"], ["- twice", "read once"]),
    (["estimate", "P", "Q", "--groups-p", "P"], ["--groups-q", "go together"]),
    (["estimate", "P", "Q", "--plot", "p.txt"], ["--plot p.txt", ".png"]),
    (["estimate", "P", "Q", "--plot", "nowhere/p.png"], ["nowhere/p.png", "existing folder"]),
    (["divergences", "hellingr"], ["did you mean hellinger?"]),
    (["divergences", "alpha(zero)"], ["alpha(zero)"]),
    (["reproduce", "mods"], ["unknown experiment 'mods'", "did you mean modes?"]),
    (["reproduce", "modes", "--data", "here"], ["--data here", "modes has data of its own", "leave it out"]),
    (["train"], ["CONFIG"]),
    (["train", "--quiet"], ["CONFIG"]),
    (["train", "nowhere.toml"], ["nowhere.toml: no such config file", "configs/ring.toml"]),
    (["train", "configs/rings.toml"], ["configs/rings.toml: no such config file", "configs/ring.toml"]),
    (["train", RING, "--divergence", "kll"], ["did you mean kl?"]),
    (["train", RING, "--critic.featurs", "3"], ["did you mean --critic.features?"]),
    (["train", RING, "--critic.reach", "3"], ["'--critic.reach'", "it is now called --critic.output_bound"]),
    (["train", RING, "--critic.leash=3"], ["'--critic.leash'", "it is now called --critic.out_of_bound_penalty"]),
    (["train", RING, "--spread.start", "3"], ["'--spread.start'", "it is now called --instance_noise.start"]),
    (["train", RING, "--stps", "3"], ["did you mean --steps?"]),
    (["train", RING, "--steps", "many"], ["--steps", "'many'"]),
    (["train", RING, "--steps", "-1"], ["steps = -1"]),
    (["train", RING, "--batch", "0"], ["batch = 0"]),
    (["train", RING, "--critic-optimizer.learning-rate", "nan"], ["critic_optimizer.learning_rate = nan"]),
    (["train", RING, "--penalty", "r3"], ["'r3'"]),
    (["train", RING, "--data.name", "rings"], ["data.name = 'rings'", "did you mean ring?"]),
    (["train", RING, "--data.name", "samples"], ["--data.path"]),
    (["train", RING, "--data.name", "images"], ["--data.path ~/photos"]),
    (["train", RING, "--critic.bound", "donsker_varadhan"], ["kl"]),
    (["sample", "RUN", "-n", "0"], ["-n 0"]),
    (["sample", "RUN", "--member", "1"], ["member 1"]),
    (["sample", "RUN", "--out", "x.txt"], ["x.txt", ".npy or .csv or .tsv or .parquet"]),
    (["sample", "RUN", "--out", "nowhere/x.npy"], ["nowhere/x.npy", "existing folder"]),
]


@pytest.mark.parametrize("words, parts", NONSENSE, ids=[" ".join(w)[-40:].replace(str(ROOT), "") for w, _ in NONSENSE])
def test_what_cannot_be_meant_exits_2_with_the_nearest_name(fgan, pair, trained, monkeypatch, words, parts):
    monkeypatch.chdir(ROOT)
    files = {"P": pair[0], "Q": pair[1], "RUN": trained}
    assert_refused(fgan(*(files.get(word, word) for word in words)), 2, *parts)


BAD_CONFIGS = [
    ("stps = 3\n", ["tiny.toml:1", "'stps'", "did you mean steps?"]),
    ("steps = 3\n\n[critic]\nfeatrues = [8]\n", ["tiny.toml:4", "did you mean critic.features?"]),
    ("steps = '3'\n", ["tiny.toml:1", "whole number"]),
    ("seed = 1\nsteps = 3.5\n", ["tiny.toml:2", "whole number"]),
    ("[data]\nname = 'rings'\n", ["tiny.toml:2", "ring"]),
    ("steps = 3\nsteps = 4\n", ["tiny.toml", "line 2"]),
    ("steps = \n", ["tiny.toml", "line 1"]),
    ("batch = 0\n", ["batch = 0"]),
    ("steps = -1\n", ["steps = -1"]),
    ("[generator_optimizer]\nlearning_rate = nan\n", ["generator_optimizer.learning_rate = nan"]),
    ("[generator_optimizer]\nlearning_rate = -0.1\n", ["generator_optimizer.learning_rate = -0.1"]),
    ("divergence = 'kll'\n", ["did you mean kl?"]),
    ("# x\n" * 600_000, ["tiny.toml", "2400000 bytes"]),
]


@pytest.mark.parametrize("text, parts", BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_a_bad_config_exits_2_naming_file_line_and_nearest_name(fgan, tmp_path, text, parts):
    (tmp_path / "tiny.toml").write_text(text)
    assert_refused(fgan("train", tmp_path / "tiny.toml", "--run", tmp_path / "run"), 2, *parts)
    assert not (tmp_path / "run").exists()


# --- train ------------------------------------------------------------------------------------------------------------


def test_training_names_the_run_and_its_pictures(fgan, tiny, trained):
    said = fgan("train", tiny, "--run", trained, "--quiet")
    lines = said.out.splitlines()
    assert (said.code, lines[0].split()) == (0, ["run", str(trained)])
    assert all(Path(line.split()[-1]).is_file() for line in lines[-3:]) and lines[-2].endswith("samples-00000020.png")
    assert lines[-1].split() == ["report", str(trained / "report.html")]
    assert "modes" in said.out and status(trained)["state"] == "finished"


def test_the_same_command_goes_on_where_it_stopped(fgan, tiny, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    before = (run / "metrics.jsonl").read_bytes()
    said = fgan("train", tiny, "--run", run)
    assert said.code == 0 and f"resuming {run} at step 20" in said.err
    assert (run / "metrics.jsonl").read_bytes() == before
    assert fgan("train", tiny, "--run", run, "--steps", 40, "--quiet").code == 0
    assert status(run)["step"] == 40 and (run / "metrics.jsonl").read_bytes().startswith(before)


def test_another_config_in_the_same_directory_exits_2_with_the_difference(fgan, tiny, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    words = ("train", tiny, "--run", run, "--quiet", "--seed", 1)
    assert_refused(fgan(*words), 2, str(run), "seed was 0, is 1", "--overwrite")
    assert "seed = 0" in (run / "config.toml").read_text()
    assert fgan(*words, "--overwrite").code == 0
    assert "seed = 1" in (run / "config.toml").read_text() and status(run)["state"] == "finished"
    assert "seed = 0" in (tmp_path / "run.old-1" / "config.toml").read_text()


OVERRIDES = [
    ("--divergence kl", "divergence", "kl"),
    ("--seed 3", "seed", 3),
    ("--seeds 8", "seeds", 8),
    ("--steps 7", "steps", 7),
    ("--penalty r1 r2", "penalty.names", ("r1", "r2")),
    ("--penalty r1", "penalty.names", ("r1",)),
    ("--penalty.weight 0.5", "penalty.weight", 0.5),
    ("--critic.features 256 128", "critic.features", (256, 128)),
    ("--critic-optimizer.learning-rate 0.1", "critic_optimizer.learning_rate", 0.1),
    ("--critic_optimizer.learning_rate 0.1", "critic_optimizer.learning_rate", 0.1),
    ("--game.critic-steps=5", "game.critic_steps", 5),
    ("--data.flatten", "data.flatten", True),
    ("--log.every 5", "log.every", 5),
]


@pytest.mark.parametrize("place", ["after", "before"])
@pytest.mark.parametrize("words, name, value", OVERRIDES, ids=[words for words, *_ in OVERRIDES])
def test_any_field_is_an_option_over_what_the_file_says(fgan, tiny, asked, place, words, name, value):
    given = words.split()
    said = fgan("train", tiny, *given) if place == "after" else fgan("train", *given, "--quiet", tiny)
    assert said.code == 0
    ((made, _, options),) = asked
    differing = {n for n in names() if get(made, n) != get(load(tiny), n)}
    assert differing == {name} and get(made, name) == value
    assert options == {"overwrite": False, "quiet": place == "before"}


@pytest.mark.parametrize(
    "file, words, run",
    [
        ("tiny.toml", [], "runs/tiny-js-seed0"),
        ("tiny.toml", ["--divergence", "tv", "--seed", "4"], "runs/tiny-total_variation-seed4"),
        ("tiny.toml", ["--divergence", "alpha(0.5)"], "runs/tiny-alpha-0.5-seed0"),
        ("my ring ö.toml", [], "runs/my-ring-js-seed0"),
        ("环.toml", ["--run", "somewhere else"], "somewhere else"),
    ],
)
def test_the_run_directory_is_named_after_config_divergence_and_seed(fgan, asked, tmp_path, file, words, run):
    (tmp_path / file).write_text(TINY)
    assert fgan("train", tmp_path / file, *words).code == 0
    assert asked[0][1] == run


def test_a_config_whose_name_makes_no_directory_needs_one(fgan, asked, tmp_path):
    (tmp_path / "环.toml").write_text(TINY)
    assert_refused(fgan("train", tmp_path / "环.toml"), 2, "--run")


# --- the other ends of a run ------------------------------------------------------------------------------------------


def test_a_run_that_diverges_exits_4(fgan, tiny, tmp_path):
    wild = [f"--{group}-optimizer.{field}" for group in ("critic", "generator") for field in ("name", "learning-rate")]
    options = [word for flag in wild for word in (flag, "sgd" if flag.endswith("name") else "1e30")]
    relu = ["--divergence", "kl", "--critic.nonlinearity", "relu", "--steps", "200"]
    said = fgan("train", tiny, "--run", tmp_path / "run", "--quiet", *options, *relu)
    assert_refused(said, 4, "nan_report.json")
    assert (tmp_path / "run" / "nan_report.json").is_file() and status(tmp_path / "run")["state"] == "failed"


@pytest.mark.parametrize("words", [["sample"], ["sample", "--out", "samples.npy"]])
def test_no_run_exits_5(fgan, tmp_path, words):
    assert_refused(fgan(*words, tmp_path / "nowhere"), 5, "nowhere", "no run directory")


def test_a_run_without_a_sound_checkpoint_exits_5(fgan, tiny, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    assert_refused(fgan("sample", run), 5, "no checkpoint")
    run = shutil.copytree(trained, tmp_path / "damaged")
    for file in (run / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"\0" * file.stat().st_size)
    assert_refused(fgan("train", tiny, "--run", run, "--quiet"), 5, str(run))


def test_a_run_in_use_exits_6(fgan, tiny, tmp_path):
    with RunDirectory.open(tmp_path / "run", to_toml(load(tiny))):
        said = fgan("train", tiny, "--run", tmp_path / "run", "--quiet")
    assert_refused(said, 6, "in use by process", str(os.getpid()))


def test_a_directory_that_cannot_be_written_exits_7(fgan, tiny, tmp_path):
    (tmp_path / "file").touch()
    assert_refused(fgan("train", tiny, "--run", tmp_path / "file" / "run", "--quiet"), 7, "cannot write", "--run")


@pytest.mark.parametrize(
    "error, code",
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."), 7),
        (OSError(errno.ENOSPC, "No space left on device"), 7),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_the_machine_refuses_is_one_line_too(fgan, tiny, monkeypatch, error, code):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(train, "train", refuse)
    assert_refused(fgan("train", tiny), code, str(error) or "interrupted")


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("x"), TypeError("x"), AssertionError("x")])
def test_a_bug_keeps_its_traceback(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(divergences, "table", fail)
    with pytest.raises(type(error), match="x"):
        main(["divergences"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_with_the_state_saved(fgan, tiny, tmp_path, monkeypatch, number):
    append = RunDirectory.append

    def strike(self, record, *rest):
        append(self, record, *rest)
        if record["step"] == 10 and not rest:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as once:
        once.setattr(RunDirectory, "append", strike)
        said = fgan("train", tiny, "--run", tmp_path / "run", "--quiet")
    assert_refused(said, 128 + number, "step 10")
    assert status(tmp_path / "run") == {"state": "preempted", "step": 10, "warnings": []}
    assert fgan("sample", tmp_path / "run", "-n", 3, "--out", tmp_path / "x.npy").code == 0
    assert fgan("train", tiny, "--run", tmp_path / "run", "--quiet").code == 0
    assert status(tmp_path / "run")["step"] == 20


@pytest.mark.parametrize("words, code", [(["estimate", "nowhere", "q"], 3), (["divergences", "kll"], 2)])
def test_debug_shows_the_traceback_and_keeps_the_code(fgan, words, code):
    plain, full = fgan(*words), fgan(*words, "--debug")
    assert plain.code == full.code == code
    assert "Traceback (most recent call last)" in full.err
    assert full.err.splitlines()[-1].endswith(plain.err.removeprefix("fgan: ").strip())


@pytest.mark.parametrize(
    "error, part", [(RuntimeError("Unknown backend: 'gpx' (set X)"), "'gpx'"), (AssertionError(), "plugin")]
)
@pytest.mark.parametrize("words", [["divergences"], ["estimate", "p", "q"], ["train", RING], ["sample", "run"]])
def test_a_device_that_is_not_there_exits_2(fgan, monkeypatch, words, error, part):
    def none():
        raise error

    monkeypatch.setattr(jax, "devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "gpx")
    assert_refused(fgan(*words), 2, "JAX_PLATFORMS=gpx", part)


# --- sample, divergences, reproduce -----------------------------------------------------------------------------------


def test_samples_are_drawn_by_seed_in_the_units_of_the_data(fgan, trained, tmp_path):
    draws = []
    for i, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"draw {i}.npy"
        said = fgan("sample", trained, "-n", 7, "--out", out, "--seed", seed)
        assert (said.code, said.out) == (0, f"{out}: 7 samples of dimension 2, from step 20\n")
        draws.append(np.load(out))
    assert draws[0].shape == (7, 2) and draws[0].dtype == np.float64 and np.isfinite(draws).all()
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_samples_go_where_they_are_expected_unless_told(fgan, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fgan("sample", trained)
    assert np.load("samples.npy").shape == (10_000, 2)


def test_the_table_of_divergences_has_a_line_each(fgan):
    said = fgan("divergences")
    lines = said.out.splitlines()
    names = [line.split()[0] for line in lines[1 : 1 + len(est.DIVERGENCES)]]
    assert said.code == 0 and names == list(est.DIVERGENCES)


def test_the_markdown_table_has_the_same_cells_in_every_row(fgan):
    lines = fgan("divergences", "--markdown").out.splitlines()
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {len(divergences.HEADER) + 2}
    assert [line.split("`")[1] for line in lines[2:]] == list(est.DIVERGENCES)


@pytest.mark.parametrize("name", [*est.DIVERGENCES, "alpha(0.3)", "tv"])
def test_one_divergence_in_detail_shows_its_functions(fgan, name):
    """Each line of the table of values keeps f*(f'(u)) = u f'(u) − f(u)."""
    said, row = fgan("divergences", name), est.divergence(name)
    assert said.code == 0 and said.out.splitlines()[0].split() == ["name", row.name] and row.source in said.out
    values = [[float(cell) for cell in line.split()] for line in said.out.splitlines()[-5:]]
    for u, f, slope, conjugate in values:
        assert f == pytest.approx(float(row.f(u)), abs=1e-5)
        assert conjugate == pytest.approx(u * slope - f, abs=2e-5 * (1.0 + u) * max(1.0, abs(slope)))


@pytest.mark.parametrize("words", [[], ["--list"], ["modes", "--list"]])
def test_the_experiments_are_listed(fgan, words):
    said = fgan("reproduce", *words)
    assert said.code == 0 and [line.split()[0] for line in said.out.splitlines()] == list(reproduce.EXPERIMENTS)


@pytest.mark.parametrize("words, folder", [([], "runs/mine"), (["--run", "my own"], "my own")])
def test_an_experiment_reports_where_its_files_are(fgan, monkeypatch, tmp_path, words, folder):
    def experiment(name, directory, quiet):
        assert (name, quiet) == ("mine", True)
        return [directory / "mine.png", directory / "mine.json"]

    monkeypatch.chdir(tmp_path)
    reproduce.EXPERIMENTS.add("mine", "my own", experiment)
    try:
        said = fgan("reproduce", "mine", "--quiet", *words)
        assert "mine              my own" in fgan("reproduce", "--list").out
    finally:
        reproduce.EXPERIMENTS.remove("mine")
    made = tmp_path / folder
    assert said.out.splitlines()[:2] == [f"picture  {made / 'mine.png'}", f"data     {made / 'mine.json'}"]


def test_an_experiment_on_images_takes_data_from_elsewhere(fgan, monkeypatch, tmp_path):
    """From the working directory on, into a folder named after them."""

    def experiment(name, directory, quiet, data=""):
        return [directory / f"{Path(data).relative_to(tmp_path)}.json"]

    monkeypatch.chdir(tmp_path)
    reproduce.EXPERIMENTS.add("mine", "my own", experiment)
    try:
        said = fgan("reproduce", "mine", "--quiet", "--data", "pictures")
    finally:
        reproduce.EXPERIMENTS.remove("mine")
    folder, file = Path(said.out.split()[-1]).parts[-2:]  # of the name's own hash, since others may be called so
    assert re.fullmatch(r"mine-pictures-[0-9a-f]{6}", folder) and file == "pictures.json"
    assert said.out == f"data     {tmp_path / 'runs' / folder / file}\n"


# --- what is added at run time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, table", TABLES, ids=[name for name, _ in TABLES])
def test_an_entry_of_a_table_is_a_choice_at_once(fgan, tiny, asked, monkeypatch, name, table):
    """In help, on the command line and to the checker: a penalty, data set, bound, optimiser, schedule, …"""
    flag = f"--{name}".replace("--penalty.names", "--penalty")
    assert_refused(fgan("train", tiny, flag, "mine"), 2, name, "mine")
    module, _, attribute = table.partition(":")
    monkeypatch.setitem(getattr(importlib.import_module(module), attribute), "mine", None)
    assert fgan("train", tiny, flag, "mine").code == 0 and get(asked[0][0], name) in ("mine", ("mine",))
    assert "mine" in "".join(line.strip(" │") for line in fgan("train", "--help").out.splitlines())


def test_a_data_set_is_one_entry(monkeypatch):
    monkeypatch.setitem(sources.DATASETS, "mine", lambda data: f"{data.name} in {data.path}")
    assert sources.load(Data(name="mine", path="here")) == "mine in here"


def test_a_model_is_one_entry(fgan, tiny, asked):
    assert_refused(fgan("train", tiny, "--model", "mine"), 2, "model = 'mine'", "choose from")
    MODELS.add("mine", "my own", lambda config, data, replicas: "built")
    try:
        assert fgan("train", tiny, "--model", "mine").code == 0 and build(asked[0][0], None) == "built"
        assert "mine" in fgan("train", "--help").out
    finally:
        MODELS.remove("mine")


def test_a_command_is_one_entry(fgan):
    @dataclass(frozen=True, kw_only=True)
    class Command(Base):
        word: Positional[str]

        def __call__(self):
            print(self.word)

    COMMANDS.add("say-it", "Print a word.", Command)
    try:
        assert fgan("say-it", "hello").out == "hello\n"
        assert "say-it" in fgan("--help").out and "Print a word." in fgan("say-it", "--help").out
        assert_refused(fgan("say-i", "hello"), 2, "did you mean say-it?")
    finally:
        COMMANDS.remove("say-it")


# --- help, and streams that close -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_shown(fgan, words):
    said = fgan(*words)
    assert said.code == 0 and said.err == "" and said.out.startswith(" ".join(["usage: fgan", *words[:-1]]))


def test_help_of_a_config_shows_its_values(fgan, tiny):
    said = fgan("train", tiny, "--help")
    text = " ".join(said.out.replace("│", " ").split())
    assert said.code == 0 and "--steps INT>=1 Generator updates. (default: 20)" in text
    assert all(f"--{name.replace('_', '-')}" in text for name in names() if name != "penalty.names")


HEAVY = ("jax", "flax", "optax", "orbax", "scipy", "matplotlib")
LOADED = f"""\
import contextlib, runpy, sys
with contextlib.suppress(SystemExit):
    runpy.run_module("fgan", run_name="__main__", alter_sys=True)
print("loaded", *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.mark.parametrize("words", [["--help"], ["train", RING, "--help"], ["reproduce", "--list"], ["estimat"]])
def test_words_that_need_no_jax_load_none(words):
    done = subprocess.run([sys.executable, "-c", LOADED, *words], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"


@contextlib.contextmanager
def unread():
    """A pipe whose reader has left, as `| head` leaves one."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def spawn(*words, closed="", **streams):
    """`python -m fgan` in a process of its own, with the shell's redirection `closed`."""
    program = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-m", "fgan", *words]
    return subprocess.run(program, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False, **streams)


@pytest.mark.parametrize("words", [["train", RING, "--help"], ["reproduce", "--list"]])
def test_a_reader_that_leaves_is_no_error(words):
    with unread() as stdout:
        done = spawn(*words, stdout=stdout)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_closed_streams_are_no_error(closed):
    done = spawn("reproduce", "--list", closed=closed, stdout=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_under_the_output_exits_7():
    with open("/dev/full", "w") as stdout:
        done = spawn("reproduce", "--list", stdout=stdout)
    assert (done.returncode, done.stderr) == (7, "fgan: [Errno 28] No space left on device\n")


def test_a_locale_without_our_symbols_is_no_error():
    plain = {"PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]}  # and no HOME
    done = spawn("--help", stdout=subprocess.PIPE, env=plain)
    assert (done.returncode, done.stderr) == (0, "") and r"D(P\u2016Q)" in done.stdout


def test_a_column_that_one_file_has_is_dropped_on_the_command_line(fgan, tmp_path):
    """The remedy that the refusal of different columns names."""
    rng = np.random.default_rng(0)
    for name, header in (("p.csv", "a,b,c"), ("q.csv", "a,b")):
        rows = rng.normal(size=(40, header.count(",") + 1))
        np.savetxt(tmp_path / name, rows, delimiter=",", header=header, comments="")
    files = tmp_path / "p.csv", tmp_path / "q.csv"
    assert fgan("estimate", *files, "--method", "knn").code == 3
    assert fgan("estimate", *files, "--method", "knn", "--drop", "c").code == 0
    assert "a column 'd' to drop" in fgan("estimate", *files, "--method", "knn", "--drop", "d").err
