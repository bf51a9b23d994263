"""Files made to do harm: nothing in data, a config or a run is ever executed, followed out of its place, or shown in a
way that steers a terminal or a picture.

`benchmarks.torture.guard.guarded` listens to the interpreter: a started program, a connection, a pickle, code from
nowhere and a file written elsewhere are all reported. The canary is a file that each of the attacks would make.
"""

import gzip
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from rich.text import Text

from benchmarks.torture import fuzz, guard
from estimators import estimation
from estimators.characters import printable
from estimators.contract import Fit, Interval, Scores
from estimators.distributions.spelled import spelled
from estimators.divergences.table import UnknownDivergence, functional
from estimators.pictures import plot
from estimators.plot_style import verbatim
from estimators.samples.files import read_samples
from estimators.samples.raw import DataError
from fgan.cli import estimate as estimate_command
from fgan.cli.main import main
from fgan.config import toml
from fgan.config.checks import check
from fgan.config.fields import ConfigError
from fgan.data.column_plan import read_plan
from fgan.data.tables import Form, write_csv
from fgan.run import judged_picture, lock, loop, pictures, sweep, sweep_picture
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.directory import UNKNOWN, ConfigConflict, RunDirectory
from fgan.run.lock import RunLocked
from fgan.run.manifest import content_hash, digests
from fgan.run.members import Members, read_data, write_data
from fgan.run.progress import Reporter
from fgan.run.whole_files import write_atomic

pytestmark = [  # of orbax and its threads, when they fail
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CANARY = "canary"
TOUCH = f"__import__('pathlib').Path('{CANARY}').touch()"


class Egg:
    """Pickled, it makes the canary when it is loaded."""

    def __reduce__(self):
        return (exec, (TOUCH,))


@pytest.fixture
def watched(tmp_path):
    """A folder of hostile files; at the end nothing has happened outside, and there is no canary."""
    work = tmp_path / "work"
    work.mkdir()
    for target in ("samples", "config", "checkpoint", "estimate"):
        fuzz.warmed(target)
    with guard.guarded(tmp_path, patience=200.0) as found:
        yield work
    found.pop("peak")
    assert found == {}
    assert not list(tmp_path.rglob(CANARY))


def test_the_guard_sees_what_it_is_there_for(tmp_path):
    """A guard that reports nothing would let all tests here pass."""
    (tmp_path / "work").mkdir()
    outside = tmp_path / "outside"
    with guard.guarded(tmp_path) as found:
        outside.touch()
        pickle.loads(pickle.dumps(Egg()))
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert {"open outside", "pickle.find_class", "code run", "subprocess.Popen", "left in here"} <= set(found)


# --- data -------------------------------------------------------------------------------------------------------------

EGG = pickle.dumps(Egg())
EGGS = fuzz.npy(np.array([Egg(), 1.0], object), allow_pickle=True)
CORPUS = {
    "objects.npy": EGGS,
    "objects.npz": fuzz.archive({"x.npy": EGGS}),
    "bare.npy": EGG,
    "bare.npz": fuzz.archive({"x.npy": EGG}),
    "bare.csv": pickle.dumps(Egg(), 0),
    "bare.pkl": EGG,
    "bare.parquet": b"PAR1" + EGG + b"PAR1",
    "bare.gz": gzip.compress(EGG),
    "header.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(TOUCH)) + TOUCH.encode(),
    "deep.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
}


@pytest.mark.parametrize("name", CORPUS)
def test_data_is_never_executed(watched, name, capsys):
    path = watched / name
    path.write_bytes(CORPUS[name])
    with pytest.raises(DataError):
        read_samples(path)
    fuzz.run_command("estimate", str(path), str(path))


def test_members_of_an_archive_stay_in_it(watched):
    """Their names may lead anywhere, for nothing is unpacked to disk."""
    points = np.arange(12.0).reshape(6, 2) ** 2
    for name in (f"../../{CANARY}", f"/{CANARY}", f"..\\{CANARY}", "C:x"):
        path = watched / "a.npz"
        path.write_bytes(fuzz.archive({f"{name}.npy": fuzz.npy(points)}))
        np.testing.assert_array_equal(read_samples(path).values, points)


def test_formulas_are_words_and_are_written_as_they_stood(watched):
    """A program that reads the training file must read the generated rows: no cell is changed, formulas neither."""
    cells = ["=cmd|'/C calc'!A0", "+1+1", "@SUM(1)", "-2+3"]
    path = watched / "formulas.csv"
    path.write_text("x,word\n" + "".join(f'{k}.5,"{cells[k % 4]}"\n' for k in range(40)))
    samples = read_samples(path)
    assert set(samples.levels[1]) == set(cells)
    write_csv(watched / "out.csv", samples.values, Form.of(samples, []))
    assert read_samples(watched / "out.csv").levels == samples.levels


# --- configs and names ------------------------------------------------------------------------------------------------

SPELLINGS = [TOUCH, f"exec({TOUCH!r})", f"normal({TOUCH})", f"(lambda: {TOUCH})()", f"[{TOUCH} for x in (1,)][0]",
             f"normal(0, 1).__class__({TOUCH})", "getattr(normal, 'x')", f"f'{{{TOUCH}}}'", "(" * 5000]  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS, ids=range(len(SPELLINGS)))
def test_names_are_never_executed(watched, text):
    with pytest.raises(ValueError):
        spelled(text)
    with pytest.raises(UnknownDivergence):
        functional(text)
    with pytest.raises(UnknownDivergence):
        functional(f"alpha({text})")
    file = watched / "config.toml"
    for key in ("divergence", "critic.divergence", "data.name", "generator.kind", "model"):
        file.write_text(f"{key} = {json.dumps(text)}\n")
        with pytest.raises((ConfigError, UnknownDivergence)):
            check(toml.load(file))
    file.write_text(f"[grid]\ndivergence = [{json.dumps(text)}]\n")
    with pytest.raises(ConfigError):
        sweep.load(file).configs()
    fuzz.run_command("exact", text if not text.startswith("-") else f" {text}", "normal(0, 1)")


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(watched):
    """A copy of a sound run."""
    return Path(shutil.copytree(fuzz.sound_run(), watched / "run"))


def config_of(run: Path) -> str:
    return (run / "config.toml").read_text()


LINKS = ["metrics.jsonl", "run.lock", "config.toml", "status.json", "data.json", "figures/training.png", "checkpoints",
         "nan_report.json", "samples/00000001.npy", "checkpoints/tmp-9", ".trial"]  # fmt: skip


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("there", [True, False])
def test_links_do_not_lead_a_run_out_of_its_directory(run, name, there, tmp_path):
    """A run from elsewhere could write over the user's own files by them; it is refused before anything is written."""
    victim = run.parent / "victim"
    if there:
        victim.write_text("precious")
    (run / "run.lock").unlink()
    place = run / name
    place.parent.mkdir(exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(victim)
    with pytest.raises(ConfigConflict, match=f"{place.name} is a link, and a run writes only inside its directory"):
        RunDirectory.open(run, config_of(fuzz.sound_run()))
    assert victim.read_text() == "precious" if there else not victim.exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "config.toml", "data.json", "checkpoints/x"])
def test_pipes_in_a_run_are_refused_at_once(run, name):
    """Whoever opens one waits for ever."""
    (run / "run.lock").unlink()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    for opened in (lambda: RunDirectory.open(run, config_of(fuzz.sound_run())), lambda: RunDirectory.find(run)):
        with pytest.raises(ConfigConflict, match=f"{Path(name).name} is a pipe"):
            opened()


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "folder"])
def test_configs_that_are_no_files_are_refused_at_once(watched, path):
    (watched / "folder").mkdir()
    os.mkfifo(watched / "pipe")
    for read in (toml.load, sweep.load, read_plan):
        with pytest.raises(ConfigError, match="no such"):
            read(str(watched / path))


def test_the_run_directory_itself_may_be_a_link(run):
    (run / "run.lock").unlink()
    (run.parent / "link").symlink_to(run)
    with RunDirectory.open(run.parent / "link", config_of(run)) as opened:
        assert opened.path == run.resolve()


def signed(root: Path, **changes) -> None:
    """Make the manifest of a step anew, as one who may write there can."""
    facts = json.loads((root / "manifest.json").read_text())["content"] | {"files": digests(root / "state")} | changes
    (root / "manifest.json").write_text(json.dumps({"sha256": content_hash(facts), "content": facts}))


def restored(run: Path):
    fingerprint, like, _ = fuzz.sound_state()
    return Checkpoints(run / "checkpoints", fingerprint=fingerprint, warn=lambda line: None).restore(like)


def test_a_pickle_among_a_checkpoints_files_is_never_loaded(run):
    root = run / "checkpoints" / "1"
    (root / "state" / "evil.pkl").write_bytes(EGG)
    with pytest.raises(CheckpointError, match=r"evil.pkl is not in manifest.json"):
        restored(run)
    signed(root)
    assert restored(run).step == 1


@pytest.mark.parametrize("replaced", ["_METADATA", "manifest.ocdbt", "_sharding", "array_metadatas"])
def test_a_pickle_in_place_of_orbaxs_files_is_never_loaded(run, replaced):
    root = run / "checkpoints" / "1"
    for path in root.rglob("*"):
        if path.is_file() and path != root / "manifest.json" and replaced in path.relative_to(root).parts[1]:
            path.write_bytes(EGG)
    signed(root)
    try:
        assert restored(run).step == 1  # orbax may do without that file
    except CheckpointError as error:
        assert "\n" not in str(error)


ELSEWHERE = ["/dev/zero", "../manifest.json", "../../../config.toml", "/etc/passwd", "..", ""]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_manifest_cannot_name_files_elsewhere(run, name):
    root = run / "checkpoints" / "1"
    there = root / "state" / name
    facts = {"size": 0, "sha256": hashlib.sha256().hexdigest()}
    if there.is_file() and there.stat().st_size:
        facts = {"size": there.stat().st_size, "sha256": hashlib.sha256(there.read_bytes()).hexdigest()}
    signed(root, files=digests(root / "state") | {name: facts})
    with pytest.raises(CheckpointError, match="No such file"):
        restored(run)


def test_a_checkpoint_holds_its_files_and_no_links_to_others(run):
    root = run / "checkpoints" / "1"
    file = next(path for path in sorted((root / "state").rglob("*")) if path.is_file())
    shutil.move(file, run.parent / "elsewhere")
    file.symlink_to(run.parent / "elsewhere")
    with pytest.raises(CheckpointError, match=f"{file.name}: No such file"):
        restored(run)


@pytest.mark.parametrize("name", ["data.json", "status.json", "metrics.jsonl"])
@pytest.mark.parametrize("content", [b"[" * 10**6, b'{"a": ' * 10**5, b"\xff\xfe{}", b"1", b"9" * 5000, EGG])
def test_damaged_files_of_a_run_are_named(run, name, content, capsys):
    (run / name).write_bytes(content + b"\n")
    found = RunDirectory.find(run)
    if name == "status.json":  # which is written anew
        assert found.last_status == UNKNOWN
        return
    remedy = "fgan train command writes it anew" if name == "data.json" else "put back a good copy"
    with pytest.raises(CheckpointError, match=rf"{name}.* (is damaged|cannot be read) .*{remedy}"):
        if name == "data.json":
            fuzz.run_command("sample", str(run), "-n", "3", "--out", str(run.parent / "s.npy"))
            read_data(found, Members.from_toml(found.config_toml).config)
        found.records()


def test_a_changed_digit_in_data_json_is_seen(run):
    """It would turn into other samples, and no file of a checkpoint would tell."""
    found, text = RunDirectory.find(run), (run / "data.json").read_text()
    config = Members.from_toml(found.config_toml).config
    assert read_data(found, config)[0].dim
    for pattern in (r"(?<=\d\.)\d", r"(?<=\d)(?=,)", r'sha256(?=": ")', "sha256"):
        (run / "data.json").write_text(re.sub(pattern, lambda m: "7" if m[0] != "7" else "8", text, count=1))
        with pytest.raises(CheckpointError, match="does not match its own hash"):
            read_data(found, config)


def test_a_lock_file_may_hold_anything(run):
    """It locks if it names a process, and does no harm if not."""
    for content in (b"[" * 10**6, b"{" * 10**5, b"\xff", b'{"pid": 1e400, "host": []}', b'{"pid": true, "host": "x"}'):
        (run / "run.lock").write_bytes(content)
        lock.release(run / "run.lock", lock.claim(run / "run.lock"))
    (run / "run.lock").write_text(json.dumps({"pid": 1, "host": "\x1b[2J", "started": "\n"}))
    with pytest.raises(RunLocked) as refusal:
        lock.claim(run / "run.lock")
    assert str(refusal.value).isprintable()


# --- files that are written -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "forbidden"), [(0o022, 0o022), (0o077, 0o077)])
def test_files_are_as_private_as_the_users_others(tmp_path, umask, forbidden):
    before = os.umask(umask)
    try:
        source = RunDirectory.find(fuzz.sound_run())
        fingerprint, _, state = fuzz.sound_state()
        with RunDirectory.open(tmp_path / "run", source.config_toml) as run:
            write_data(run, SimpleNamespace(dim=1, side=0, offset=np.zeros(1), scale=np.ones(1), coordinates=None,
                                            rows=(), held_out=(), classes=0, fingerprint=lambda: "x"))  # fmt: skip
            run.append({"step": 1})
            run.status("running", 1)
            Checkpoints(run.checkpoints, fingerprint=fingerprint).save(1, state)
            made = {path: path.stat().st_mode for path in (tmp_path / "run").rglob("*")}
    finally:
        os.umask(before)
    assert len(made) > 8 and [path for path, mode in made.items() if mode & forbidden] == []


def test_drafts_have_names_of_chance_and_follow_no_link(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".status.json.tmp").symlink_to(victim)
    drafts = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (drafts.append(self.name), replace(self, target))[1])
    for _ in range(2):
        write_atomic(tmp_path / "status.json", "{}")
    assert victim.read_text() == "precious" and len(set(drafts)) == 2


def test_drafts_that_a_killed_process_left_are_removed(run):
    (run / "run.lock").unlink()
    (run / "samples").mkdir()
    left = [run / ".status.json.0123456789abcdef.tmp", run / "samples" / ".1.npy.00.tmp", run / ".data.json.tmp"]
    for draft in left:
        draft.write_text("half")
    RunDirectory.open(run, config_of(run)).close()
    assert not any(draft.exists() for draft in left)


# --- names, as people see them ----------------------------------------------------------------------------------------

NAMES = ["$\\frac{$", "$x^2$", "a\\", "%s %n {0}", "<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "two\nlines",
         "\u202egnp.exe", "[red]x[/red]", "[/]", "样本", "\x9b31m", "_hidden", "\\input{/etc/passwd}", "$$",
         "\x7f"]  # fmt: skip


def pixels(text: str, **options) -> np.ndarray:
    figure = plt.figure(figsize=(5, 1))
    figure.text(0.05, 0.4, text, **options)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba()).copy()
    plt.close(figure)
    return drawn


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_names_letter_by_letter(name):
    assert np.array_equal(pixels(verbatim(name)), pixels(printable(name), parse_math=False))


def test_pictures_of_a_run_hold_any_names(run):
    columns = [
        {"name": name, "ks": 0.1, "real": [1.0, 2.0], "generated": [2.0, 1.0]}
        | ({"categories": [name, name]} if k % 2 else {"edges": [0.0, 1.0, 2.0], "dates": False})
        for k, name in enumerate(NAMES)
    ]
    for name in NAMES[:1]:
        scores = {"js": 0.1, "js_low": 0.0, "js_high": None, name: 0.2, f"{name}_low": 0.1, f"{name}_high": 0.3}
        scores |= {"ks": 0.1, "ks_column": name, "correlation_error": 0.1, "lost_mass": 0.1, "invented_mass": 0.1}
        scores |= {"columns": columns, "p_value": None, "training_rows": dict(scores), "not_estimated": name}
        line = json.dumps({"step": 1, "scores": [{"judged": scores}]}) + "\n"
        (run / "metrics.jsonl").write_text(line)
        assert judged_picture.judged(run).stat().st_size > 1000
        (run / "metrics.jsonl").write_text('{"step": 1, "bound": [0.1, 0.2]}\n{"step": 2, "bound": [0.1, 0.2]}\n')
        pictures.training(run, notes=(name, "$x$"))


def test_pictures_of_a_sweep_hold_any_names(tmp_path):
    rows = [f"{json.dumps(name)},{rate},0,finished,1,0.5" for name in ("a$b", "$\\frac{$", "%") for rate in (1, 2)]
    text = "divergence,penalty.weight,seed,state,step,bound\n" + "\n".join(r.replace('\\"', '""') for r in rows) + "\n"
    (tmp_path / "results.csv").write_text(text)
    assert sweep_picture.draw(tmp_path / "results.csv").stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Glyph .* missing:UserWarning")
def test_a_picture_of_an_estimate_holds_any_name_and_no_script():
    log_ratios = np.random.default_rng(0).normal(size=60)
    for name in (NAMES[0], NAMES[4], NAMES[5]):
        estimate = SimpleNamespace(scores=Scores(log_ratios, -log_ratios), divergence=name, value=0.1, low=0.0,
                                   high=0.2,
                                   confidence=0.95, diagnostics={}, method="neural")  # fmt: skip
        figure, stream = plot(estimate), io.StringIO()
        figure.savefig(stream, format="svg")
        plt.close(figure)
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(stream.getvalue()).iter()}
        assert "script" not in tags and len(tags) > 3


@pytest.fixture
def stubbed(monkeypatch):
    """No method estimates anything."""
    monkeypatch.setattr(estimation, "METHODS", dict.fromkeys(estimation.METHODS, _stub))


def _stub(request):
    return Fit("stub", [Interval(0.1, 0.0, 0.2, 0.05) for _ in request.divergences])


@pytest.mark.parametrize("name", [name for name in NAMES if "\n" not in name])
def test_tables_on_the_terminal_escape_every_name(name, tmp_path, capsys, stubbed):
    quoted = '"' + name.replace('"', '""') + '"'
    rng = np.random.default_rng(0)
    for file, header in (("p.csv", quoted), ("q.csv", '"other"')):
        (tmp_path / file).write_text(
            header + "\n" + "".join(f"{x:.3f}\n" for x in rng.normal(size=20)), encoding="utf-8"
        )
    code = leaving(main, ["estimate", str(tmp_path / "p.csv"), str(tmp_path / "q.csv"), "--explain"])
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    if "\x1b" in name:  # a byte that no text holds
        assert (code, out, err.count("\n")) == (3, "", 1)
    else:
        assert (code, err) == (0, "") and printable(name.strip()) in out


def leaving(action, *arguments) -> int:
    with pytest.raises(SystemExit) as left:
        action(*arguments)
    return left.value.code


def test_the_summary_of_a_run_escapes_every_name(monkeypatch, tmp_path, capsys):
    scores = {"exact": 0.5} | {f"score {name}": name for name in NAMES}
    outcome = loop.Outcome(tmp_path / "a\x1b[2Jrun", 1, [scores], True, tuple(NAMES))
    monkeypatch.setattr(loop, "train", lambda *_, **__: outcome)
    (tmp_path / "c.toml").write_text("steps = 1\n")
    assert leaving(main, ["train", str(tmp_path / "c.toml"), "--run", str(tmp_path / "r")]) == 0
    out, _ = capsys.readouterr()
    assert all(line.isprintable() for line in out.split("\n")) and "\\x1b[31mred" in out and "[red]x[/red]" in out
    assert leaving(main, ["train", str(tmp_path / "c.toml"), "--run", str(tmp_path / "r"), "--json"]) == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1 and out[:-1].isprintable() and json.loads(out)["notes"] == NAMES


def test_progress_escapes_every_name(capsys):
    report = Reporter(1)
    for name in NAMES:
        report.say(f"column {name}")
    _, err = capsys.readouterr()
    assert err.splitlines() == [f"column {printable(name)}" for name in NAMES]
    for name in (name for name in NAMES if not name.endswith("\\")):
        assert Text.from_markup(estimate_command._named(name)).plain == printable(name)
