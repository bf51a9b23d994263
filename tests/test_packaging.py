"""The distribution: what it holds, what importing it costs, and that its pins and its bounds agree."""

import importlib
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jax.numpy as jnp
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES = ("estimators", "fgan")
HEAVY = ("jax", "flax", "optax", "orbax", "scipy", "matplotlib", "tyro")


def direct_requirements() -> dict[str, Requirement]:
    """Every requirement of the project and its extras by its text, less the project's own extras."""
    extras = PROJECT["optional-dependencies"].values()
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in extra)]
    return {text: Requirement(text) for text in texts if Requirement(text).name != PROJECT["name"]}


def constraints() -> dict[str, Requirement]:
    """The lines of constraints.txt by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    names = [canonicalize_name(requirement.name) for requirement in requirements]
    assert len(names) == len(set(names)), "a distribution is pinned twice"
    return dict(zip(names, requirements))


def test_the_wheel_holds_exactly_the_two_packages():
    assert sorted(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == list(PACKAGES)
    assert sorted(path.parent.name for path in ROOT.glob("*/__init__.py")) == ["benchmarks", *PACKAGES]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_package_declares_its_types(package):
    assert (ROOT / package / "py.typed").is_file()


def test_upload_is_refused():
    assert "Private :: Do Not Upload" in PROJECT["classifiers"]


def test_python_classifiers_are_the_versions_allowed():
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}.5" in allowed]
    prefix = "Programming Language :: Python :: 3."
    assert [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if text.startswith(prefix)] == minors


@pytest.mark.parametrize("script, target", PROJECT["scripts"].items())
def test_the_script_exists(script, target):
    module, _, function = target.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_does_no_work(package):
    """Package `__init__`s import on first use (PEP 562), so that `fgan --help` answers at once."""
    program = f"import {package}, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == []


def test_every_public_name_resolves():
    estimators = importlib.import_module("estimators")
    assert len(estimators.__all__) == len(set(estimators.__all__)) > 0
    assert [name for name in estimators.__all__ if not hasattr(estimators, name)] == []
    assert set(estimators.__all__) <= set(dir(estimators))


def test_no_module_hides_a_public_function():
    """A module `estimators.estimate` would become `est.estimate` when it is imported."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}."):
            importlib.import_module(module.name)
    est = importlib.import_module("estimators")
    functions = [name for name in est.__all__ if name.islower()]
    assert {"estimate", "divergence", "mutual_information"} <= set(functions)
    assert [name for name in functions if not callable(getattr(est, name))] == []
    assert {module.name for module in pkgutil.iter_modules(est.__path__)}.isdisjoint(functions)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module("estimators").no_such_name


@pytest.mark.parametrize("text", direct_requirements())
def test_each_dependency_is_bounded_and_pinned_within_its_bounds(text):
    requirement = direct_requirements()[text]
    assert [bound.operator for bound in requirement.specifier] == [">="]
    pin = constraints()[canonicalize_name(requirement.name)]
    assert [exact.operator for exact in pin.specifier] == ["=="]
    (version,) = (exact.version for exact in pin.specifier)
    assert Version(version) in requirement.specifier


def test_constraints_are_plain_pins():
    """No hosts, hashes, extras or local builds: the file must serve every machine and every supported Python."""
    for name, pin in constraints().items():
        (exact,) = pin.specifier
        assert exact.operator == "==" and pin.url is None and not pin.extras, name
        assert Version(exact.version).local is None, name


def test_rank_promotion_raises():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.zeros((2, 3)) + jnp.zeros(3)


def test_x64_turns_float64_on(x64):
    assert jnp.zeros(()).dtype == "float64"


def test_dtype_is_the_default_precision(dtype):
    assert jnp.zeros(()).dtype == dtype
