"""Torture: the runner goes on where it was stopped and hides no failure; killed trainings end as others do."""

import json
import random
import shutil
from types import SimpleNamespace

import pytest

from benchmarks.torture import __main__ as torture
from benchmarks.torture import kills, summary
from benchmarks.torture.journal import Journal
from benchmarks.torture.witness import PHASES


# --- the runner ------------------------------------------------------------------------------------------------------
def section(case, count=3):
    return SimpleNamespace(ABOUT="made up here", COUNT=count, case=case)


def well(i, scratch):
    (scratch / "file").touch(exist_ok=False)
    return {"what": f"case {i}", "verdict": "ok", "tries": 2, "by kind": {"odd" if i % 2 else "even": 1}}


@pytest.fixture
def go(tmp_path, monkeypatch):
    """Runs the command on a section, whose case is given, alone; (exit code, summary)."""

    def main(case, **options):
        monkeypatch.setattr(torture, "sections", lambda: {"mine": section(case)})
        results = tmp_path / "results" / "torture.json"
        code = torture.main(torture.Settings(out=tmp_path / "out", results=results, **options))
        return code, json.loads(results.read_text())

    return main


def test_a_run_sums_up_what_its_cases_counted(go, tmp_path, capsys):
    code, facts = go(well)
    found = facts["sections"]["mine"]
    assert code == 0 and (found["cases"], found["of"]) == (3, 3) and found["verdicts"] == {"ok": 3, "not ok": 0}
    assert found["tries"] == 6 and found["by kind"] == {"even": 2, "odd": 1} and not found["failures"]
    assert facts["versions"].keys() >= {"python", "jax", "numpy", "orbax-checkpoint"}
    assert facts["date"] and facts["commits"] and "cores" in facts["machines"][0]["machine"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cases.jsonl"]
    assert "by kind: even 2, odd 1" in capsys.readouterr().out


def test_what_was_run_is_not_run_again_and_a_case_that_was_cut_off_is(go, tmp_path, capsys):
    begun = []

    def case(i, scratch):
        begun.append(i)
        facts = well(i, scratch)  # which finds an empty folder
        if begun == [0, 1]:
            raise KeyboardInterrupt
        return facts

    code, facts = go(case)
    assert code == 130 and facts["sections"]["mine"]["cases"] == 1
    assert "the same command goes on" in capsys.readouterr().err
    code, facts = go(case)
    assert code == 0 and begun == [0, 1, 1, 2] and facts["sections"]["mine"]["cases"] == 3


def test_a_line_that_was_cut_off_is_its_case_run_again(go, tmp_path):
    go(well, cases=2)
    path = tmp_path / "out" / "cases.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [row["case"] for row in Journal(tmp_path / "out").rows()] == [0]
    code, facts = go(well)
    assert code == 0 and facts["sections"]["mine"]["cases"] == 3
    assert [row["case"] for row in Journal(tmp_path / "out").rows()] == [0, 1, 2]


@pytest.mark.parametrize("way", ["by verdict", "by error"])
def test_a_failure_is_kept_and_makes_the_exit_code_1(go, tmp_path, way, capsys):
    def case(i, scratch):
        facts = well(i, scratch)
        if i == 1 and way == "by error":
            raise TypeError("no such thing")
        return facts | ({"verdict": "TypeError: no such thing"} if i == 1 else {})

    code, facts = go(case)
    found = facts["sections"]["mine"]
    assert code == 1 and found["verdicts"] == {"ok": 2, "not ok": 1}
    assert [(row["case"], row["verdict"]) for row in found["failures"]] == [(1, "TypeError: no such thing")]
    assert (tmp_path / "out" / "mine-000001" / "file").exists()  # to be looked at
    assert "TypeError: no such thing" in capsys.readouterr().out
    assert go(well, report=True)[0] == 1


def test_an_unknown_section_is_refused(go, capsys):
    assert torture.main(torture.Settings(sections=("kill",))) == 2
    assert "did you mean kills?" in capsys.readouterr().err


def test_the_sections_are_the_files_of_the_package():
    found = torture.sections()
    assert "kills" in found and not {"witness", "journal", "summary"} & found.keys()
    assert all(module.COUNT > 0 and module.ABOUT and "\n" not in module.ABOUT for module in found.values())


def test_only_whole_numbers_are_summed():
    rows = [{"case": 3, "seconds": 1, "n": 2, "share": 0.5, "yes": True, "text": "a", "by": {"x": 1, "y": 2}}] * 2
    assert summary.sums(rows) == {"n": 4, "by": {"y": 4, "x": 2}}


# --- kills -----------------------------------------------------------------------------------------------------------
PLANAR = list(kills.SCENARIOS).index("planar gan")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """(the folder of a case with three kills, what it found)."""
    scratch = tmp_path_factory.mktemp("torture") / "case"
    scratch.mkdir()
    return scratch, kills.case(PLANAR, scratch, kills=3)


def test_a_training_killed_three_times_ends_as_any_other(killed):
    scratch, facts = killed
    assert facts["verdict"] == "ok" and facts["kills"] == 3 and facts["bytes different"] == 0
    assert facts["bytes compared"] > 100_000 and sum(facts["kills by phase"].values()) == 3
    run = kills.Training("planar gan", scratch.parent / "kills", scratch / "run")
    expected = set(PHASES) - {"restore", "results"}  # of a resumed run, of a sweep
    assert set(run.reference().phases) == expected
    assert len((scratch / "run" / "metrics.jsonl").read_text().splitlines()) == 24


def spoil_metrics(run):
    text = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(text.replace(b'"step": 150', b'"step": 151'))


def lose_the_newest_checkpoint(run):
    shutil.rmtree(run / "checkpoints" / "200")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_metrics, "metrics.jsonl"),
        (lose_the_newest_checkpoint, "checkpoints/180.generator"),
        (lambda run: (run / "checkpoints" / "tmp-40").mkdir(), "checkpoints/tmp-40"),
        (lambda run: (run / ".status.json.tmp").touch(), ".status.json.tmp"),
        (lambda run: (run / "samples" / "00000100.npy").unlink(), "samples/00000100.npy"),
    ],
)
def test_a_difference_is_found_and_named(killed, tmp_path, spoil, named):
    run = shutil.copytree(killed[0] / "run", tmp_path / "run")
    spoil(run)
    facts = kills._compared(killed[0] / "run", run)
    assert facts["verdict"].startswith("different: ") and named in facts["verdict"] and facts["bytes different"] > 0


def test_every_scenario_is_killed_in_every_phase_it_has():
    phases = dict.fromkeys(PHASES, kills.Phase(3, 9, 0.1))
    reference, aimed = kills.Reference(None, phases, 5.0), set()
    for i in range(kills.COUNT):
        draw = random.Random(i)
        planned = [kills._moment(i, k, draw, reference, 1.0) for k in range(kills.KILLS)]
        assert sum(kill.how == "random" for kill in planned) == kills.KILLS // 2
        aimed |= {(i % len(kills.SCENARIOS), kill.phase) for kill in planned if kill.how != "random"}
    assert len(aimed) == len(kills.SCENARIOS) * (len(PHASES) - 1)  # after "close" nothing is left to kill


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan", "flow", "vae", "sweep", "eight devices, sharded"])
def test_a_training_killed_four_times_ends_as_any_other(tmp_path, optimised, name):
    (tmp_path / "case").mkdir()
    facts = kills.case(list(kills.SCENARIOS).index(name), tmp_path / "case", kills=4)
    assert facts["verdict"] == "ok" and facts["kills"] >= 3
