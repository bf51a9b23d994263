"""Reports: one file that any browser shows, of what was asked, what came of it and what to heed; names do no harm."""

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import estimators as est
from fgan.cli.main import main
from fgan.config.schema import Config, Critic, Data, Generator, Log
from fgan.run import estimate_report, report
from fgan.run import html as pieces
from fgan.run.checkpoint import CheckpointError
from fgan.run.directory import RunNotFound
from fgan.run.loop import train

EVIL = '<script>alert(1)</script>\x1b[2J&"'


class Page(html.parser.HTMLParser):
    """What a page holds."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.words, self.open = [], [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "data", "action", "background")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += "" if self.open[-1:] == ["style"] else data


def stands_alone(text: str) -> Page:
    """The page, which has no scripts, forms or frames, and asks nobody for anything."""
    page = Page(text)
    assert not page.open and set(page.tags).isdisjoint({"script", "iframe", "form", "object", "link", "a"})
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "default-src 'none'" in text and "url(" not in text and "@import" not in text and "\x1b" not in text
    return page


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """Two finished runs, the second one of two seeds."""
    home = tmp_path_factory.mktemp("runs")
    base = {"batch": 8, "steps": 6, "data": Data(name="ring"), "critic": Critic(features=(4,))}
    base |= {"generator": Generator(features=(4,)), "log": Log(every=2, evaluate=2, samples=40)}
    for name, changes in (("one", {}), ("two", {"divergence": "kl", "seeds": 2})):
        train(Config(**base | changes), home / name, quiet=True)
    return [home / "one", home / "two"]


def test_a_run_tells_what_was_asked_and_found(runs):
    page = stands_alone(report.of(runs[:1]))
    for words in (
        "js on ring",
        "finished at step 6 of 6",
        "What to heed",
        "batch = 8",
        "modes",
        "steps a second",
    ):
        assert words in page.words
    assert len(page.sources) >= 3 + 2  # samples at three steps, and curves
    scores = json.loads((runs[0] / "metrics.jsonl").read_text().splitlines()[-1])["scores"][0]
    assert f"{scores['high_quality_of_perfect']:.4g}" in page.words and "modes are missing" in page.words


def test_several_runs_stand_side_by_side(runs):
    page = stands_alone(report.of(runs))
    assert "2 runs" in page.words and "one: finished" in page.words and "two: finished" in page.words
    asked = page.words.partition("What was asked")[2].partition("What all share")
    assert "divergence" in asked[0] and '"kl"' in asked[0] and "batch" not in asked[0] and "batch" in asked[2]
    assert "±" in page.words  # of two seeds


def test_scores_are_compared_with_those_of_real_data():
    names = ["precision", "held_out_digits.precision", "held_out_digits.accuracy", "modes", "of_modes", "mode_kl"]
    names += ["mode_kl_floor", "features.kl", "features.real_images.kl", "features.kl_low"]
    compared = {name: report._reference_of(name, names) for name in names}
    assert {name: other for name, other in compared.items() if other} == {
        "held_out_digits.precision": "precision",
        "of_modes": "modes",
        "mode_kl_floor": "mode_kl",
        "features.real_images.kl": "features.kl",
    }


def test_names_in_a_run_do_no_harm(runs, tmp_path):
    evil = tmp_path / "a&b'c"
    shutil.copytree(runs[0], evil)
    (evil / "status.json").write_text(json.dumps({"state": "finished", "step": 6, "devices": EVIL, "warnings": [EVIL]}))
    page = stands_alone(report.of([evil]))
    assert "<script>alert(1)</script>" in page.words and "a&b'c" in page.words


def test_a_run_without_pictures_or_scores_has_a_report(runs, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(runs[0], bare, ignore=shutil.ignore_patterns("figures"))
    (bare / "metrics.jsonl").write_text("")
    assert "finished at step 6" in stands_alone(report.of([bare])).words
    with pytest.raises(RunNotFound):
        report.of([tmp_path])


def test_a_folder_of_results_has_a_report(tmp_path, runs):
    (tmp_path / "results.csv").write_text(f'line,divergence,empty\n0,kl,\n1,"{EVIL[:10]}",\n')
    shutil.copy(next((runs[0] / "figures").glob("*.png")), tmp_path / "toy.png")
    row = {"divergence": "js", "modes": {"mean": 7.5, "standard_error": 0.25}, "inner": {"a": 2}, "list": [1]}
    (tmp_path / "toy.json").write_text(json.dumps({"aims": {"all modes": False, "fast": True}, "rows": [row]}))
    page = stands_alone(report.of([tmp_path]))
    for words in ("MISSED: all modes", "met: fast", "7.5 ± 0.25", "inner a", "<script>al"):
        assert words in page.words
    assert "empty" not in page.words and len(page.sources) == 1


def test_estimates_have_a_report():
    x, y = (np.random.default_rng(k).normal(2.0 * k, 1.0, (300, 1)) for k in (0, 1))
    estimates = est.estimate(x, y, ["kl", "js"], method="gaussian")
    page = stands_alone(estimate_report.page(EVIL, "y.csv", estimates, {"n_p": 300, "n_q": 300, "dim": 1}, 0.95))
    for e in estimates:
        assert f"{e.value:.4g}" in page.words and e.trust in page.words
    assert "<script>alert(1)</script>" in page.words and "intervals of 95 %" in page.words


def test_pages_are_written_by_commands(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, file in (
        (["report", str(runs[0])], runs[0] / "report.html"),
        (["report", *map(str, runs)], "report.html"),
    ):
        with pytest.raises(SystemExit) as leaving:
            main(words)
        assert leaving.value.code == 0 and Path(file).is_file()
    for words in (["report"], ["report", "none"], ["report", str(runs[0]), "--out", "a.txt"]):
        with pytest.raises(SystemExit) as leaving:
            main(words)
        assert leaving.value.code in (2, 5)
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to show a page")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_pages_without_errors_or_scrolling_sideways(width, runs, tmp_path):
    for number, page in enumerate([report.of(runs), report.of(runs[:1])]):
        (tmp_path / f"{number}.html").write_text(page, encoding="utf-8")
        frame = f'<iframe id="f" src="{number}.html" width="{width}" height="900"></iframe>'
        measure = "const d = f.contentDocument.documentElement; document.title = `${d.scrollWidth} of ${d.clientWidth}`"
        (tmp_path / "outer.html").write_text(f"{frame}<script>onload = () => {{ {measure} }}</script>")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--dump-dom"]
        command = ["chromium", *options, "--enable-logging=stderr", f"--user-data-dir={tmp_path}/browser"]
        shown = subprocess.run(
            [*command, (tmp_path / "outer.html").as_uri()], capture_output=True, text=True, timeout=120
        )
        found = re.search(r"<title>(\d+) of (\d+)</title>", shown.stdout)
        assert found and int(found[1]) <= int(found[2]) > 0.8 * width and "CONSOLE" not in shown.stderr


def test_text_is_escaped():
    assert pieces.text(EVIL) == "&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[2J&amp;&quot;"


def test_no_reference_of_one_run_is_shown_for_another(runs, tmp_path):
    """Nor are seeds without a number left out of a mean unsaid."""
    other = tmp_path / "other"
    shutil.copytree(runs[0], other)
    scores = [
        {"seed": 0, "modes": 4, "of_modes": 25, "exact": 0.5},
        {"seed": 1, "modes": 6, "of_modes": 25, "exact": None},
    ]
    (other / "metrics.jsonl").write_text(json.dumps({"step": 6, "scores": scores}) + "\n")
    rows = {row[0]: row[1:] for row in report._rows([report.Facts(runs[0], "one"), report.Facts(other, "other")])}
    assert rows["modes"][1:] == ["5 ± 1", "differs"] and rows["exact"][1] == "0.5 (1 of 2 seeds)"


@pytest.mark.parametrize("modes, missing", [(620, False), (500, True)])
def test_modes_are_missing_where_a_perfect_sampler_has_more(runs, tmp_path, modes, missing):
    stacked = tmp_path / "stacked"
    shutil.copytree(runs[0], stacked)
    scores = {"seed": 0, "modes": modes, "of_modes": 1000, "modes_of_perfect": 632.3}
    (stacked / "metrics.jsonl").write_text(json.dumps({"step": 6, "scores": [scores]}) + "\n")
    facts = report.Facts(stacked, "stacked")
    assert next(report._rows([facts])) == ["modes", str(modes), "632.3"]
    assert any("modes are missing" in line for line in report.advice(facts)) == missing


@pytest.mark.parametrize(
    "file, text",
    [
        ("metrics.jsonl", '{"bound": [1.0]}'),
        ("metrics.jsonl", '{"step": 2, "bound": [1.0, 2.0]}\n{"step": 4, "bound": [1.0]}'),
        ("timings.jsonl", '{"step": 2, "seconds": "x"}'),
    ],
)
def test_damaged_files_of_a_run_are_named(runs, tmp_path, file, text):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    (run / file).write_text(text + "\n")
    with pytest.raises(CheckpointError, match="run"):
        report.of([run])
