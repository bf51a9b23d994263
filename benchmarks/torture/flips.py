"""Damage to what is saved: each case copies two saved steps, damages them, and restores.

It must end in the newest step to the bit, in the older one to the bit after a warning that names the file, or, where
both were damaged or belong to another run, in a refusal.
"""

import functools
import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fgan.config.schema import Config, Critic, Data, Generator, Log
from fgan.run.checkpoint import CheckpointError, Checkpoints
from fgan.run.loop import train
from fgan.run.manifest import MANIFEST, PAYLOAD
from fgan.run.members import restore

ABOUT = "flipped, truncated, lost, swapped and foreign files of checkpoints: found out, or of no effect"
MANIFEST_FLIPS, PAYLOAD_FLIPS, TRUNCATIONS, RUNS = 900, 500, 200, 24
COUNT = 2000  # the other 376 are of CASES, each drawn anew

OLD, NEW = 1, 2


class Scene:
    """A copy of two saved steps, to be damaged."""

    def __init__(self, folder: Path, rng: random.Random):
        self.folder, self.rng = folder, rng
        self.refusal = ""  # words of the refusal where one is right
        self.named: str | None = None  # what the warning has to name

    def step(self, number: int = NEW) -> Path:
        return self.folder / str(number)

    def manifest(self, number: int = NEW) -> Path:
        return self.step(number) / MANIFEST

    def payload(self, number: int = NEW) -> list[Path]:
        """The files of a step's payload."""
        return sorted(path for path in (self.step(number) / PAYLOAD).rglob("*") if path.is_file())

    def any_file(self) -> Path:
        """A file of the newest step, which the warning must name."""
        found = self.rng.choice([*self.payload(), self.manifest()])
        self.named = found.name
        return found

    def sign(self, content: Any) -> None:
        """Write a manifest with this content and its right hash."""
        text = json.dumps(content, sort_keys=True)
        signed = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "content": content}
        self.manifest().write_text(json.dumps(signed))

    def content(self) -> dict[str, Any]:
        return json.loads(self.manifest().read_text())["content"]


def state(step: int) -> dict[str, Any]:
    key = jax.random.key(step)
    return {"w": jax.random.normal(key, (5, 3)), "key": key, "skipped": jnp.int32(step)}


def bits(tree: Any) -> list[bytes]:
    """The bits of each array."""
    leaves = jax.tree.leaves(tree)
    plain = (jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves)
    return [np.asarray(x).tobytes() for x in plain]


@functools.cache
def saved(fingerprint: str = "f") -> Path:
    """A folder with steps OLD and NEW, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="fgan-flips-"))
    for step in (OLD, NEW):
        Checkpoints(folder, fingerprint=fingerprint).save(step, state(step), metrics_bytes=step)
    return folder


def case(i: int, scratch: Path) -> dict[str, Any]:
    """Case number i in the empty folder `scratch`."""
    if i >= COUNT - RUNS:
        return whole_run(i, scratch)
    scene = Scene(Path(shutil.copytree(saved(), scratch / "checkpoints")), random.Random(i))
    what = damage(i, scene)
    return {"what": what, "verdict": verdict(scene)}


def damage(i: int, scene: Scene) -> str:
    """What was done to the scene in case i."""
    if i < MANIFEST_FLIPS:
        scene.named = MANIFEST
        size = scene.manifest().stat().st_size
        return flip(scene.manifest(), i * size // MANIFEST_FLIPS, scene.rng)
    i -= MANIFEST_FLIPS
    if i < PAYLOAD_FLIPS:
        files = scene.payload()
        file = files[i % len(files)]
        scene.named = file.name
        return flip(file, scene.rng.randrange(file.stat().st_size), scene.rng)
    i -= PAYLOAD_FLIPS
    if i < TRUNCATIONS:
        file = scene.any_file()
        left = scene.rng.randrange(file.stat().st_size)
        os.truncate(file, left)
        return f"{file.name} cut to {left} bytes"
    name = list(CASES)[(i - TRUNCATIONS) % len(CASES)]
    CASES[name](scene)
    return name


def flip(file: Path, at: int, rng: random.Random) -> str:
    """Flip a bit of the byte `at`."""
    content, bit = bytearray(file.read_bytes()), rng.randrange(8)
    content[at] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {at} of {file.name}"


def verdict(scene: Scene) -> str:
    """ "ok", or what went wrong in a few words."""
    warned: list[str] = []
    checkpoints = Checkpoints(scene.folder, fingerprint="f", warn=warned.append)
    try:
        restored = checkpoints.restore(state(0))
    except CheckpointError as error:
        right = scene.refusal and scene.refusal in str(error) and "\n" not in str(error)
        return "ok" if right else f"refused: {error}"
    if scene.refusal:
        return "not refused"
    if restored is None:
        return "a silent restart"
    if restored.step not in (OLD, NEW) or restored.metrics_bytes != restored.step:
        return f"restored step {restored.step} with {restored.metrics_bytes} bytes of metrics"
    if bits(restored.state) != bits(state(restored.step)):
        return "a wrong value"
    if restored.step == OLD and scene.named is not None and not any(scene.named in line for line in warned):
        return f"no warning names {scene.named}"
    checkpoints.save(3, state(3), metrics_bytes=3)
    after = checkpoints.restore(state(0))
    return "ok" if after is not None and bits(after.state) == bits(state(3)) else "the next save was lost"


CASES: dict[str, Callable[[Scene], Any]] = {}


def of_step(named: str | None = "", refusal: str = "") -> Callable[[Callable[[Scene], Any]], Callable[[Scene], Any]]:
    """List a way to damage a scene under its name; the warning must name `named`, or words of a refusal be right."""

    def listed(function: Callable[[Scene], Any]) -> Callable[[Scene], Any]:
        def run(scene: Scene) -> None:
            scene.named, scene.refusal = named, refusal
            function(scene)

        CASES[function.__name__.strip("_").replace("_", " ")] = run
        return function

    return listed


@of_step()
def file_deleted(scene: Scene) -> None:
    scene.any_file().unlink()


@of_step()
def file_emptied(scene: Scene) -> None:
    scene.any_file().write_bytes(b"")


@of_step()
def file_made_a_directory(scene: Scene) -> None:
    file = scene.any_file()
    file.unlink()
    file.mkdir()


@of_step()
def file_made_a_pipe(scene: Scene) -> None:
    file = scene.any_file()
    file.unlink()
    os.mkfifo(file)


@of_step()
def file_made_a_link_to_nothing(scene: Scene) -> None:
    file = scene.any_file()
    file.unlink()
    file.symlink_to("nowhere")


@of_step()
def file_made_a_link_to_itself(scene: Scene) -> None:
    file = scene.any_file()
    file.unlink()
    file.symlink_to(file.name)


@of_step()
def file_made_a_link_to_endless_zeros(scene: Scene) -> None:
    file = scene.any_file()
    file.unlink()
    file.symlink_to("/dev/zero")


@of_step()
def file_grown(scene: Scene) -> None:
    file = scene.rng.choice(scene.payload())
    scene.named = file.name
    file.write_bytes(file.read_bytes() + b"\0")


@of_step(None)
def file_made_a_link_to_its_own_copy(scene: Scene) -> None:
    file = scene.any_file()
    scene.named = None
    kept = scene.folder.parent / "elsewhere"
    shutil.move(file, kept)
    file.symlink_to(kept)


@of_step()
def two_bytes_exchanged(scene: Scene) -> None:
    file = scene.rng.choice([path for path in scene.payload() if len(set(path.read_bytes())) > 1])
    content = bytearray(file.read_bytes())
    one = scene.rng.randrange(len(content))
    other = scene.rng.choice([k for k, byte in enumerate(content) if byte != content[one]])
    content[one], content[other] = content[other], content[one]
    scene.named = file.name
    file.write_bytes(content)


@of_step(PAYLOAD)
def payload_deleted(scene: Scene) -> None:
    shutil.rmtree(scene.step() / PAYLOAD)
    scene.named = None  # the first of its files


@of_step(None)
def newest_step_deleted(scene: Scene) -> None:
    shutil.rmtree(scene.step())


@of_step(MANIFEST)
def empty_step(scene: Scene) -> None:
    (scene.folder / "7").mkdir()


@of_step(MANIFEST)
def step_that_is_a_file(scene: Scene) -> None:
    (scene.folder / "7").touch()


@of_step(MANIFEST)
def only_a_payload(scene: Scene) -> None:
    shutil.copytree(scene.step() / PAYLOAD, scene.folder / "7" / PAYLOAD)


@of_step(None)
def names_that_are_no_steps(scene: Scene) -> None:
    for name in ("02", "-3", "3.0", "٣", "3 ", "1e1", "bad-9", "9" * 30):
        (scene.folder / name).mkdir()


@of_step(None)
def stale_temporary_folder(scene: Scene) -> None:
    shutil.copytree(scene.step() / PAYLOAD, scene.folder / "tmp-3" / "state.orbax-checkpoint-tmp")


@of_step(None)
def stale_temporary_file(scene: Scene) -> None:
    (scene.folder / "tmp-3").write_bytes(b"half")


@of_step(None)
def stale_temporary_link(scene: Scene) -> None:
    (scene.folder / "tmp-3").symlink_to(scene.step(), target_is_directory=True)


@of_step(None)
def half_manifest_beside(scene: Scene) -> None:
    (scene.step() / f".{MANIFEST}.tmp").write_bytes(scene.manifest().read_bytes()[:99])


def exchange(scene: Scene, one: Path, other: Path) -> None:
    """Exchange two paths."""
    aside = scene.folder.parent / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


@of_step(refusal="no usable checkpoint")
def manifests_exchanged(scene: Scene) -> None:
    exchange(scene, scene.manifest(), scene.manifest(OLD))


@of_step(refusal="no usable checkpoint")
def payloads_exchanged(scene: Scene) -> None:
    exchange(scene, scene.step() / PAYLOAD, scene.step(OLD) / PAYLOAD)


@of_step(refusal="no usable checkpoint")
def steps_exchanged(scene: Scene) -> None:
    exchange(scene, scene.step(), scene.step(OLD))


def namesakes(scene: Scene) -> list[tuple[Path, Path]]:
    """Files of both steps with one name and different content."""
    pairs = ((path, scene.step(OLD) / path.relative_to(scene.step())) for path in scene.payload())
    return [(one, other) for one, other in pairs if other.is_file() and one.read_bytes() != other.read_bytes()]


@of_step(refusal="no usable checkpoint")
def files_of_one_name_exchanged(scene: Scene) -> None:
    exchange(scene, *scene.rng.choice(namesakes(scene)))


@of_step()
def file_of_the_older_step(scene: Scene) -> None:
    new, old = scene.rng.choice([*namesakes(scene), (scene.manifest(), scene.manifest(OLD))])
    scene.named = None if new.name == MANIFEST else new.name
    shutil.copy(old, new)


@of_step()
def link_to_a_file_of_the_older_step(scene: Scene) -> None:
    new, old = scene.rng.choice(namesakes(scene))
    scene.named = new.name
    new.unlink()
    new.symlink_to(old)


@of_step(None)
def payload_of_the_older_step(scene: Scene) -> None:
    shutil.rmtree(scene.step() / PAYLOAD)
    shutil.copytree(scene.step(OLD) / PAYLOAD, scene.step() / PAYLOAD)


@of_step(MANIFEST)
def older_step_under_the_newer_number(scene: Scene) -> None:
    shutil.rmtree(scene.step())
    shutil.copytree(scene.step(OLD), scene.step())


@of_step("another configuration")
def newest_step_of_another_run(scene: Scene) -> None:
    shutil.rmtree(scene.step())
    shutil.copytree(saved("another run") / str(NEW), scene.step())


@of_step(None)
def older_step_of_another_run(scene: Scene) -> None:
    shutil.rmtree(scene.step(OLD))
    shutil.copytree(saved("another run") / str(OLD), scene.step(OLD))


@of_step(refusal="another configuration")
def both_steps_of_another_run(scene: Scene) -> None:
    shutil.rmtree(scene.folder)
    shutil.copytree(saved("another run"), scene.folder)


@of_step(None)
def payload_of_another_run(scene: Scene) -> None:
    shutil.rmtree(scene.step() / PAYLOAD)
    shutil.copytree(saved("another run") / str(NEW) / PAYLOAD, scene.step() / PAYLOAD)


@of_step(refusal="no usable checkpoint")
def both_steps_damaged(scene: Scene) -> None:
    for number in (OLD, NEW):
        file = scene.rng.choice(scene.payload(number))
        flip(file, scene.rng.randrange(file.stat().st_size), scene.rng)


@of_step(refusal="set aside as bad-")
def both_steps_set_aside(scene: Scene) -> None:
    for number in (OLD, NEW):
        scene.step(number).rename(scene.folder / f"bad-{number}")


FURTHER = (
    *("checkpoint", "d/00", "d/manifest.ocdbt", "manifest.ocdbt.__lock", ".zarray", "_strings.json", "descriptor/x"),
    *("00000/.zarray", "ocdbt.process_1/manifest.ocdbt", "array_metadatas/process_1", "._METADATA", ".DS_Store"),
)


@of_step(None)
def further_file_in_the_payload(scene: Scene) -> None:
    file = scene.step() / PAYLOAD / scene.rng.choice(FURTHER)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(scene.rng.randbytes(40))


@of_step(MANIFEST)
def huge_manifest(scene: Scene) -> None:
    os.truncate(scene.manifest(), 1 << 36)


@of_step(MANIFEST)
def deep_manifest(scene: Scene) -> None:
    depth = 10 ** scene.rng.randint(3, 6)
    scene.manifest().write_text(scene.rng.choice(["[" * depth, '{"content":' * depth, "[" * depth + "]" * depth]))


WRONG = ("", "null", "[]", "{}", "1e999", '{"sha256": 1, "content": {}}', '{"sha256": "", "content": null}', "NaN")


@of_step(MANIFEST)
def manifest_of_another_kind(scene: Scene) -> None:
    scene.manifest().write_text(scene.rng.choice(WRONG))


@of_step(MANIFEST)
def manifest_that_is_no_text(scene: Scene) -> None:
    scene.manifest().write_bytes(scene.rng.randbytes(200))


@of_step(MANIFEST)
def signed_content_of_another_kind(scene: Scene) -> None:
    scene.sign(scene.rng.choice([None, [], "text", 3, {}, {"step": NEW}, {"files": []}]))


@of_step(MANIFEST)
def signed_entry_of_another_kind(scene: Scene) -> None:
    names = ("step", "fingerprint", "leaves", "files", "metrics_bytes", "format")
    scene.sign(scene.content() | {scene.rng.choice(names): scene.rng.choice([None, "x", [1], {"a": 1}, 1.5])})


@of_step(None)
def signed_sizes_that_are_wrong(scene: Scene) -> None:
    content = scene.content()
    name = scene.rng.choice(list(content["files"]))
    content["files"][name]["size"] = scene.rng.choice([-1, 0, 1 << 80, None, "9"])
    scene.sign(content)


@of_step(refusal="newer fgan")
def step_of_a_newer_format(scene: Scene) -> None:
    scene.sign(scene.content() | {"format": scene.rng.randint(2, 99)})


# --- whole runs -------------------------------------------------------------------------------------------------------

TINY = Config(
    steps=4,
    batch=8,
    data=Data(name="mixture_1d"),
    generator=Generator(kind="location_scale", latent=1),
    critic=Critic(features=(4,)),
    log=Log(every=2, evaluate=1000, checkpoint=2, samples=8),
)


@functools.cache
def finished() -> Path:
    """A run with steps 2 and 4, made once a process."""
    return train(TINY, Path(tempfile.mkdtemp(prefix="fgan-flips-")) / "run", quiet=True).run


def whole_run(i: int, scratch: Path) -> dict[str, Any]:
    """Damage a copy of a finished run; train it again to its end, or sample from it, as the command line does."""
    run, rng = Path(shutil.copytree(finished(), scratch / "run")), random.Random(i)
    wanted = restore(finished()).sample(4)
    newest = run / "checkpoints" / str(TINY.steps)
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    if i % 4 == 3:
        shutil.rmtree(run / "checkpoints")
        what, lost = "all checkpoints deleted", True
    else:
        file = rng.choice(files)
        what, lost = flip(file, rng.randrange(file.stat().st_size), rng), False
    trained = i % 2 == 0 or lost
    try:
        if trained:
            train(TINY, run, quiet=True)
        step = restore(run).step
        same = np.array_equal(restore(run).sample(4), wanted)
    except CheckpointError as error:
        return {"what": what, "verdict": "ok" if lost else f"refused: {error}"}
    if lost:
        return {"what": what, "verdict": "a silent restart"}
    if trained:
        metrics = (run / "metrics.jsonl").read_bytes() == (finished() / "metrics.jsonl").read_bytes()
        return {"what": f"{what}, trained", "verdict": "ok" if same and metrics else "another end"}
    return {"what": f"{what}, sampled", "verdict": "ok" if step == 2 or same else "a wrong value"}
