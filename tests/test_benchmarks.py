"""The benchmark's bookkeeping and arithmetic on rows made up here; nothing is estimated."""

import itertools
import json
import math
import subprocess

import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import estimation, peers, published, report, summaries
from benchmarks.ledger import Ledger, Run, plain
from estimators.tasks.divergence_tasks import BENCHMARKED, DIVERGENCE_TASKS
from estimators.tasks.kind_tasks import HELD_TO, KIND_TASKS


def row(value, truth, *, error=0.1, seed=0, method="auto", task="t", name="kl", seconds=1.0, **more):
    """A measured run with one estimate and its 95 % interval."""
    facts = {"value": value, "low": value - 1.96 * error, "high": value + 1.96 * error, "standard_error": error}
    run = Run("shift", method, task, seed, 100)._asdict()
    return {**run, "seconds": seconds, "first": False, "estimates": {name: {**facts, "truth": truth}}, **more}


# --- the ledger ------------------------------------------------------------------------------------------------------
def runs(count):
    return [Run("shift", "auto", "t", seed, 100) for seed in range(count)]


def test_a_rerun_measures_only_what_is_missing(tmp_path):
    ledger, seen = Ledger(tmp_path, "shift"), []

    def measure(run):
        seen.append(run.seed)
        return {"seconds": 1.0}

    assert estimation.fill(ledger, runs(2), measure, quiet=True) == 2
    assert estimation.fill(ledger, runs(4), measure, quiet=True) == 2
    assert seen == [0, 1, 2, 3] and len(ledger.rows()) == 4


def test_another_size_is_another_cell(tmp_path):
    ledger = Ledger(tmp_path, "shift")
    ledger.append(runs(1)[0], {})
    larger = runs(1)[0]._replace(n=200)
    assert ledger.missing([*runs(1), larger]) == [larger]


def test_failures_are_recorded_and_tried_again(tmp_path):
    ledger = Ledger(tmp_path, "shift")

    def fails(run):
        raise ValueError("too few\nrows")

    estimation.fill(ledger, runs(1), fails, quiet=True)
    assert ledger.rows()[0]["reason"] == "ValueError: too few rows"
    assert estimation.fill(ledger, runs(1), lambda run: {"seconds": 2.0}, quiet=True) == 1
    assert [r.get("seconds") for r in ledger.rows()] == [2.0]


def test_errors_of_the_program_are_not_swallowed(tmp_path):
    with pytest.raises(KeyError):
        estimation.fill(Ledger(tmp_path, "shift"), runs(1), lambda run: {}["absent"], quiet=True)


def test_a_half_written_line_costs_its_cell_alone(tmp_path):
    ledger = Ledger(tmp_path, "shift")
    for run in runs(3):
        ledger.append(run, {"seconds": 1.0})
    ledger.path.write_bytes(ledger.path.read_bytes()[:-9])
    assert [run.seed for run in ledger.missing(runs(3))] == [2]
    ledger.append(runs(3)[2], {"seconds": 5.0})
    assert [r["seconds"] for r in ledger.rows()] == [1.0, 1.0, 5.0]


def test_infinite_numbers_survive_strict_json():
    kept = json.loads(
        json.dumps(plain({"a": math.inf, "b": [-math.inf, math.nan], "c": np.float32(0.5)}), allow_nan=False)
    )
    assert float(kept["a"]) == math.inf and float(kept["b"][0]) == -math.inf
    assert kept["b"][1] is None and kept["c"] == 0.5


# --- the plan --------------------------------------------------------------------------------------------------------
def test_patterns_and_counts_narrow_the_plan():
    settings = estimation.Settings(methods=("auto",), tasks=("*_d5",), seeds=3, n=50)
    planned = estimation.shift_runs(settings)
    assert planned == [Run("shift", "auto", "shift_d5", seed, 50) for seed in range(3)]


def test_the_first_seed_asks_for_fresh_draws():
    runs = estimation.shift_runs(estimation.Settings(methods=("auto",), tasks=("*_d5",), seeds=2, first_seed=7))
    assert [run.seed for run in runs] == [7, 8]


def test_published_figures_are_of_tasks_that_exist():
    assert published.CONVERGENCE.keys() <= estimation.GROUPS["convergence"].keys()
    assert set(estimation.GROUPS) <= set(estimation.SUITES)


def test_coverage_is_asked_of_tasks_within_reach_and_of_equal_laws(monkeypatch):
    planned = estimation.coverage_runs(estimation.Settings(seeds=1, tasks=("shift_*", "null_*", "chasm_*")))
    names = {run.task for run in planned if run.method == "auto"}
    assert {"shift_d5", "shift_d20", "null_d5_student"} <= names
    assert not any(name.startswith(("chasm", "shift_d160")) for name in names)
    assert {DIVERGENCE_TASKS[name].split for name in names} == {"reporting"}


def test_kinds_are_planned_a_hundred_times_each():
    planned = estimation.kind_runs(estimation.Settings(first_seed=100))
    assert {run.seed for run in planned} == set(range(100, 200)) and {run.task for run in planned} == set(KIND_TASKS)


def test_small_samples_are_planned_shape_by_shape():
    planned = estimation.small_runs(estimation.Settings())
    assert len(planned) >= 1000 and len(set(planned)) == len(planned)
    shapes = [(run.task, run.n) for run in planned]
    assert len(set(shapes)) == 30 and sum(a != b for a, b in itertools.pairwise(shapes)) == 29
    some = estimation.small_runs(estimation.Settings(tasks=("d2", "d8"), n=50, seeds=2, first_seed=40))
    assert [(run.task, run.n, run.seed) for run in some] == [(t, 50, s) for t in ("d2", "d8") for s in (40, 41)]


def test_what_is_shared_exists():
    assert set(estimation.SHARED_KL) <= set(estimation.DIVERGENCE_TASKS)
    assert set(estimation.SHARED_INFORMATION) <= set(estimation.INFORMATION_TASKS)
    assert set(estimation.SUITES) == set(report.TABLES) == set(report.ABOUT) == set(estimation.Settings().suites)
    assert all((peers.HERE / f"{name.replace('-', '_')}.py").is_file() for name in peers.PEERS)


def test_a_part_that_is_not_there_becomes_one_cell_with_the_reason(tmp_path):
    planned = estimation._if_there("nothing", runs(5))
    assert [run.task for run in planned] == ["*nothing"]
    ledger = Ledger(tmp_path, "shift")
    estimation.fill(ledger, planned, estimation.measure, quiet=True)
    lines = summaries.failures(ledger.rows())
    assert lines[0]["reason"] == "Missing: estimators.nothing is not there"
    assert summaries.failures([*ledger.rows(), row(1.0, 1.0)]) == []


# --- the arithmetic --------------------------------------------------------------------------------------------------
def test_bias_and_root_mean_square_error():
    (line,) = summaries.by_task([row(1.1, 1.0, seed=0, seconds=2.0), row(1.5, 1.0, seed=1, seconds=4.0)])
    assert line["runs"] == 2 and line["seconds"] == 3.0
    assert line["bias"] == pytest.approx(0.3) and line["bias_error"] == pytest.approx(0.2)
    assert line["rmse"] == pytest.approx(math.sqrt(0.13)) and line["absolute"] == pytest.approx(0.3)
    assert line["in_standard_errors"] == pytest.approx(math.sqrt(13.0)) and line["covered"] == 0.5


def test_compiling_is_timed_apart():
    rows = [row(1.0, 1.0, seed=0, seconds=30.0, first=True), row(1.0, 1.0, seed=1, seconds=2.0)]
    assert summaries.seconds(rows) == {"seconds": 2.0, "first_seconds": 30.0}
    assert summaries.seconds(rows[:1]) == {"seconds": 30.0, "first_seconds": 30.0}


def test_infinite_truths_count_for_coverage_and_not_for_errors():
    endless = row(3.0, "inf")
    (line,) = summaries.by_task([endless])
    assert math.isnan(line["rmse"]) and line["covered"] == 0.0
    endless["estimates"]["kl"]["high"] = "inf"
    assert summaries.by_task([endless])[0]["covered"] == 1.0


def test_coverage_of_intervals_that_are_right():
    rng = np.random.default_rng(0)
    rows = [row(1.0 + 0.1 * rng.normal(), 1.0, seed=i, task=f"t{i % 5}") for i in range(2000)]
    rows += [row(9.0, 1.0, seed=i, task="bad") for i in range(20)]
    (line,) = summaries.coverage(rows)
    expected = 0.95 * 2000 / 2020
    assert line["intervals"] == 2020
    assert line["covered"] == pytest.approx(expected, abs=4 * line["covered_error"])
    assert line["covered_error"] == pytest.approx(math.sqrt(expected * (1 - expected) / 2020), rel=0.15)
    assert (line["worst"], line["worst_task"]) == (0.0, "bad")


def test_infinite_truths_are_counted_apart():
    (line,) = summaries.coverage([row(1.0, 1.0, task="a"), row(3.0, "inf", task="b"), row(5.0, "inf", task="c")])
    assert (line["covered"], line["intervals"], line["infinite"], line["infinite_covered"]) == (1.0, 1, 2, 0.0)


def test_kinds_count_open_intervals_apart_and_flag_what_is_low():
    rows = [row(1.0 + shift, 1.0, seed=i) for i, shift in enumerate((0.0, 0.5, -0.5, 0.1))]
    verdicts = ("interval covers", "interval covers", "not identifiable: 3 values", "exact: it follows")
    for made, verdict in zip(rows, verdicts):
        made["estimates"]["kl"]["trust"] = verdict
    rows[1]["estimates"]["kl"].update(low=0.5, high="inf")
    (line,) = summaries.kinds(rows)
    assert (line["open"], line["below"], line["above"], line["flag"]) == (1, 1, 0, "LOW")
    assert line["covered"] == 0.75 and line["closed_covered"] == pytest.approx(2.0 / 3.0)
    assert line["width"] == pytest.approx(0.392)
    assert line["trust"] == "interval covers 2, not identifiable 1, exact 1"
    (endless,) = summaries.kinds([row(1.0, "inf")])
    assert endless["covered"] == 0.0 and endless["flag"] == ""


@pytest.mark.slow
def test_a_kind_is_measured_with_its_options():
    facts = estimation.of_kind(estimation.Run("kinds", "auto", "categories", 0, 400))
    assert facts["chosen"] == "counts" and facts["dim"] == 1
    found = facts["estimates"]["kl"]
    assert found["truth"] == KIND_TASKS["categories"].truth("kl").value and isinstance(found["trust"], str)


def of_few_rows(value, n, *, ksg, seed=0, task="d2"):
    return {**row(value, 1.0, seed=seed, task=task, name="mutual_information", error=0.2), "n": n, "ksg": ksg}


def test_small_samples_beside_neighbours_and_published_figures():
    rows = [of_few_rows(1.1, 10, ksg=0.5), of_few_rows(0.3, 10, ksg=0.9, seed=1), of_few_rows(1.2, 100, ksg=1.0)]
    rows.append({**Run("small", "auto", "d2", 9, 10)._asdict(), "reason": "ValueError: too few"})
    few, more = summaries.small(rows)
    assert (few["n"], few["fits"], few["no_result"], few["below"], more["n"]) == (10, 2, 1, 1, 100)
    assert few["mse"] == pytest.approx((0.01 + 0.49) / 2) and few["ksg_mse"] == pytest.approx((0.25 + 0.01) / 2)
    assert few["covered"] == 0.5 and more["covered"] == 1.0
    assert [line["task"] for line in summaries.small([*rows, of_few_rows(1.0, 10, ksg=1.0, task="d4")], "task")] == [
        *("d2", "d4", "d2")
    ]
    few, neighbours, *_ = lines = summaries.squared(rows, published.BANDS)
    assert few["mse"] == pytest.approx(0.25) and neighbours["method"] == "ksg" and len(lines) == 4
    assert neighbours["mse"] == pytest.approx((0.25 + 0.01) / 2)
    others = published.from_few_rows()
    assert {line["method"] for line in others} == {"MIST", "MIST-QR", "MINDE"}
    assert {line["n"] for line in others} == set(published.BANDS) and lines[0].keys() >= others[0].keys()


def test_coverage_that_never_fails_still_has_an_error():
    (line,) = summaries.coverage([row(1.0, 1.0, seed=i) for i in range(20)])
    assert line["covered"] == 1.0 and 0.0 < line["covered_error"] < 0.1


def test_size_of_a_test():
    rows = [
        {**Run("coverage", "permutation_test", "null", i, 10)._asdict(), "seconds": 1.0, "p_value": i / 40}
        for i in range(40)
    ]
    (line,) = summaries.tests(rows)
    assert line["rejected"] == 3 / 40 and line["rejected_error"] == pytest.approx(math.sqrt(0.05 * 0.95 / 40))


def test_mutual_informations_found():
    rows = [row(1.05, 1.0, task="a"), row(1.3, 1.0, task="b"), row(0.98, 1.0, task="c")]
    (line,) = summaries.information(rows)
    assert (line["tasks"], line["close"], line["worst_task"]) == (3, 2, "b")
    assert line["absolute"] == pytest.approx(0.37 / 3)


def test_a_task_of_information_says_what_its_intervals_are_worth():
    def of(value, error, verdict, *, high=None, seed=0):
        made = row(value, 2.0, error=error, seed=seed, name="mutual_information")
        facts = made["estimates"]["mutual_information"] | {"trust": verdict, "truth_error": 0.001}
        return made | {"estimates": {"mutual_information": facts | ({} if high is None else {"high": high})}}

    rows = [
        of(2.05, 0.001, "interval covers"),  # near, and the interval misses
        of(1.50, 1.0, "interval covers", seed=1),  # far, and the interval holds
        of(0.50, 0.1, "lower bound only: networks", high="inf", seed=2),  # open: it holds, and nothing is found
    ]
    (line,) = summaries.by_information(rows, {"t": {"InfoNCE": 1.9}, "other": {"MINE": 3.0}})
    assert line["found"] == line["covered"] == pytest.approx(2 / 3)
    assert (line["open"], line["lower_bound"], line["high"]) == (1, 1, math.inf)
    assert line["estimate"] == pytest.approx(1.35) and line["truth_error"] == 0.001
    assert line["InfoNCE"] == 1.9 and math.isnan(line["MINE"])
    old = row(1.0, 1.0, name="mutual_information")
    assert summaries.by_information([old])[0]["lower_bound"] is None


def test_the_frontier_weighs_tasks_alike_and_tells_who_failed():
    rows = [row(1.1, 1.0, task="a", seed=i) for i in range(9)] + [row(1.5, 1.0, task="b")]
    peer = {**row(0.0, 1.0, task="a", method="densratio"), "estimates": {"kl": {"value": 0.4, "truth": 1.0}}}
    best, other = summaries.frontier([*rows, peer], "kl")
    assert best["method"] == "auto" and best["absolute"] == pytest.approx(0.3) and best["tasks"] == best["of"] == 2
    assert other["method"] == "densratio" and other["absolute"] == pytest.approx(0.6) and other["tasks"] == 1


# --- the report ------------------------------------------------------------------------------------------------------
def a_benchmark(folder):
    """Ledgers as a run would leave them."""
    rng = np.random.default_rng(1)
    stamp = {"machine": "a machine", "date": "2026-01-02"}

    def put(suite, method, task, names, truth, seed=0, spread=0.1, time=1.0):
        found = {name: row(truth + spread * rng.normal(), truth, error=spread)["estimates"]["kl"] for name in names}
        facts = {"seconds": time, "first": seed == 0, "estimates": found, **stamp}
        Ledger(folder, suite).append(Run(suite, method, task, seed, 100), facts)

    for i, method in enumerate(("auto", "knn", "gaussian", *peers.methods("kl"))):
        for task in estimation.SHARED_KL:
            put("peers", method, task, ["kl"], 1.0, spread=0.02 * 1.7**i, time=0.1 * 3.0**i)
    for i, method in enumerate(("auto", *peers.methods("mutual-information"))):
        for task in estimation.SHARED_INFORMATION[: 6 if i else 5]:
            put("peers", method, task, ["mutual_information"], 0.5, spread=0.02 * 1.5**i, time=5.0 / (i + 1))
    for seed in range(20):
        put("coverage", "auto", f"t{seed % 4}", BENCHMARKED, 1.0, seed=seed)
        put("kinds", "auto", f"t{seed % 4}", HELD_TO, 1.0, seed=seed)
    for truth in (0.1, 1.0, 10.0):
        put("divergences", "auto", f"t{truth}", BENCHMARKED, truth, spread=0.1 * truth)
    Ledger(folder, "small").append(
        Run("small", "auto", "d2", 0, 100), {**of_few_rows(1.0, 100, ksg=0.9), **stamp, "suite": "small"}
    )
    put("chasm", "auto", "chasm_d160", ["kl"], 40.0, spread=1.0)
    Ledger(folder, "staircase").append(
        Run("staircase", "staircase", "*staircase", 0, 0), {"reason": "Missing: not there", **stamp}
    )


def test_the_report_is_written(tmp_path):
    a_benchmark(tmp_path)
    settings = estimation.Settings(report_only=True, results=tmp_path)
    assert estimation.main(settings) == 0
    assert plt.imread(tmp_path / "estimation.png").std() > 0.01
    facts = json.loads((tmp_path / "estimation.json").read_text())
    count = sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*.jsonl"))
    assert facts["machines"] == [{"machine": "a machine", "runs": count, "from": "2026-01-02", "to": "2026-01-02"}]
    assert facts["suites"]["peers"]["kl"][0]["of"] == len(estimation.SHARED_KL)
    text = (tmp_path / "estimation.md").read_text()
    assert "Missing: not there" in text and "nan" not in text and "| densratio |" in text


def test_an_empty_report_says_so(tmp_path):
    assert estimation.main(estimation.Settings(report_only=True, results=tmp_path)) == 0
    assert json.loads((tmp_path / "estimation.json").read_text())["suites"] == {}


def test_a_plan_without_cells_is_refused(tmp_path, capsys):
    assert estimation.main(estimation.Settings(suites=("shift",), tasks=("nothing",), results=tmp_path)) == 2
    assert "no run matches" in capsys.readouterr().err


# --- peers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "printed, code, said",
    [
        ("", 0, "printed no result"),
        ("not json", 0, "not json"),
        ('{"value": NaN, "seconds": 1.0}', 0, "value is nan"),
        ("", 1, "exit code 1: Boom: no"),
    ],
)
def test_a_peer_that_fails_says_why(monkeypatch, printed, code, said):
    monkeypatch.setattr(peers, "environment", lambda name: "python")
    done = subprocess.CompletedProcess([], code, printed, "Traceback\nBoom: no\n")
    monkeypatch.setattr(peers.subprocess, "run", lambda *a, **k: done)
    with pytest.raises(peers.PeerFailure, match=said):
        peers.measure("densratio", {"x": np.zeros((2, 1)), "y": np.zeros((2, 1))}, 0)


def test_a_peer_reads_the_samples_and_the_last_line_counts(monkeypatch):
    def run(command, **settings):
        assert command[1] == "-P" and command[4:] == ["ksg", "3"]
        with np.load(command[3]) as samples:
            assert sorted(samples.files) == ["x", "z"]
        return subprocess.CompletedProcess(command, 0, 'chatter\n{"value": 0.5, "seconds": 2.0}\n', "")

    monkeypatch.setattr(peers, "environment", lambda name: "python")
    monkeypatch.setattr(peers.subprocess, "run", run)
    found = peers.measure("bmi:ksg", {"x": np.zeros((2, 1)), "z": np.zeros((2, 1))}, 3)
    assert found == {"value": 0.5, "seconds": 2.0}
