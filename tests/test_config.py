"""A config is data: it survives its own text, and whatever cannot be run is refused in one line that says where."""

import dataclasses
import importlib
import math
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimators import rooms
from estimators.divergences.table import UnknownDivergence
from fgan.config import schema as config
from fgan.config.checks import check
from fgan.config.fields import Bound, ConfigError, OneOf, Rule, fields, items, plain, walk
from fgan.config.schema import Config
from fgan.config.toml import from_toml, load, to_toml
from fgan.models.penalties import PENALTIES

SHIPPED = sorted((Path(__file__).parents[1] / "configs").glob("*.toml"))


def changed(dotted: str, value) -> Config:
    """The default config with one field replaced, unchecked."""
    group, _, name = dotted.rpartition(".")
    if not group:
        return dataclasses.replace(Config(), **{name: value})
    return dataclasses.replace(Config(), **{group: dataclasses.replace(getattr(Config(), group), **{name: value})})


def inner(kind) -> list:
    """The annotated types of one value of a field, and of each value of a tuple."""
    return items(kind, 1) if typing.get_origin(plain(kind)) is tuple else [kind]


def rule(kind) -> Rule | None:
    return next((r for r in getattr(kind, "__metadata__", ()) if isinstance(r, Rule)), None)


def configs(cls: type = Config) -> st.SearchStrategy:
    """Any value at all that the annotations allow, whether or not the whole could be run."""
    return st.builds(cls, **{name: _values(kind) for name, kind in fields(cls).items()})


def _values(kind) -> st.SearchStrategy:
    if dataclasses.is_dataclass(kind):
        return configs(kind)
    if typing.get_origin(plain(kind)) is tuple:
        lengths = st.integers(0, 3)
        return lengths.flatmap(lambda n: st.tuples(*map(_values, items(kind, n))))
    match rule(kind):
        case OneOf() as choices:
            return st.sampled_from(choices.names)
        case Bound(kind=kind, low=low, below=below) as bound:
            high = None if below == math.inf else below
            if kind is int:
                return st.integers(low, high and high - 1)
            numbers = st.floats(None if low == -math.inf else low, high, allow_nan=False, allow_infinity=False)
            return numbers.filter(lambda value: not bound.complaint(value))  # the ends may be outside
    return st.from_type(kind)


# --- text and back ----------------------------------------------------------------------------------------------------


@given(configs())
def test_a_config_survives_its_own_text(c):
    assert from_toml(to_toml(c)) == c


@pytest.mark.parametrize("text", ["a\nb", 'C:\\data\t"x"', "\x00\x7f\x85\u2028", "ключ 🂡", "'''", '"""', "# none"])
def test_text_of_any_kind_survives(text):
    c = changed("data.path", text)
    assert from_toml(to_toml(c)) == c


def test_an_empty_file_is_the_defaults():
    assert from_toml("") == Config() == check(Config())
    assert from_toml("steps = 7\n[data]\nname = 'digits'") == dataclasses.replace(
        Config(), steps=7, data=config.Data(name="digits")
    )


def test_whole_numbers_stand_for_floats_and_lists_for_tuples():
    c = from_toml("[critic_optimizer]\nlearning_rate = 1\n[generator]\nfeatures = [8]\nstart = [1, 2.5]")
    assert (c.critic_optimizer.learning_rate, c.generator.features, c.generator.start) == (1.0, (8,), (1.0, 2.5))
    assert all(isinstance(v, float) for v in (c.critic_optimizer.learning_rate, *c.generator.start))


def test_names_lists_every_field_and_get_reads_it():
    listed = list(config.names())
    lines = [line.split(" = ")[0] for line in to_toml(Config()).splitlines() if " = " in line]
    assert sorted(name.rpartition(".")[2] for name in listed) == sorted(lines)
    assert len(set(listed)) == len(listed)
    assert config.get(changed("log.every", 7), "log.every") == 7


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configs_load_and_check(path):
    c = load(path)
    if c.data.name in ("samples", "images"):  # the user names the file, or the folder
        c = dataclasses.replace(c, data=dataclasses.replace(c.data, path="mine.npy"))
    assert check(c) == from_toml(to_toml(c)) == c


def test_configs_are_shipped():
    assert SHIPPED


def test_reading_a_config_imports_nothing_heavy(tmp_path):
    """Nor does the refusal of a field, though what is checked are names in tables of other rooms."""
    (tmp_path / "c.toml").write_text("[data]\nname = 'ring'\n")
    code = (
        "import contextlib, sys; from fgan.config import checks, fields, schema, toml; "
        f"c = schema.replace(toml.load({str(tmp_path / 'c.toml')!r}), {{'penalty.names': ('r3',)}})\n"
        "with contextlib.suppress(fields.ConfigError): checks.check(c); raise SystemExit('not refused')\n"
        "print(sorted({'jax', 'flax', 'optax', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert found.stdout.strip() == "[]"


ALL = [(name, k) for name, kind, _ in walk(Config()) for k in inner(kind)]


def test_every_number_has_a_bound():
    numbers = [(name, rule(kind)) for name, kind in ALL if plain(kind) in (int, float)]
    assert [name for name, bound in numbers if not isinstance(bound, Bound) or not bound.complaint(math.nan)] == []


TABLES = [(name, t) for name, kind in ALL if isinstance(r := rule(kind), OneOf) and isinstance(t := r.table, str)]
"""Each field whose values are the names in a table, and the table's address."""


@pytest.mark.parametrize("address", sorted({table for _, table in TABLES}))
def test_choices_are_the_names_of_a_table_before_and_after_it_is_loaded(address):
    module, _, table = address.partition(":")
    assert tuple(rooms._literals(module)[table]) == tuple(getattr(importlib.import_module(module), table))


# --- refusals ---------------------------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    """The one line with which the file is refused; it names the file."""
    with pytest.raises(ConfigError) as error:
        check(load(path))
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


WRONG = [  # text, line (None where the TOML parser says it itself), words of the message
    ("steps = 5\nstesp = 6", 2, ["'stesp'", "did you mean steps?"]),
    ("[dta]\nname = 'ring'", 1, ["'dta'", "did you mean data?"]),
    ("[critic]\n\n# widths\nfeature = [8]", 4, ["critic.feature", "did you mean critic.features?"]),
    ("[critic]\n features=[8]\n  activatoin = 'paper'", 3, ["did you mean critic.activation?"]),
    ("seed = 1\ncritic.feature = [8]", 2, ["did you mean critic.features?"]),
    ("seed = 1\ndata = {nmae = 'ring'}", 2, ["did you mean data.name?"]),
    ('"stesp" = 6', 1, ["did you mean steps?"]),
    ("[critic]\nreach = 2.0", 2, ["critic.reach", "it is now called critic.output_bound"]),
    ("[critic]\nleash = 2.0", 2, ["critic.leash", "it is now called critic.out_of_bound_penalty"]),
    ("seed = 1\n[spread]\nstart = 2.0", 2, ["'spread'", "it is now called instance_noise"]),
    ("[game]\nobjective = 'covering'", 2, ["'covering'", "it is now called kl_gradient"]),
    ("zzz = 1", 1, ["'zzz'", "choose from", "critic.features", "log.every"]),
    ("steps = 'many'", 1, ["steps = 'many'", "a whole number"]),
    ("steps = 1e4", 1, ["steps = 10000.0", "a whole number"]),
    ("steps = true", 1, ["a whole number"]),
    ("[generator]\naverage = '0.9'", 2, ["generator.average", "a number"]),
    ("[generator]\naverage = true", 2, ["a number"]),
    ("divergence = 3", 1, ["text in quotes"]),
    ("[data]\nflatten = 1", 2, ["true or false"]),
    ("[data]\npath = 1979-05-27", 2, ["text in quotes"]),
    ("[generator]\nfeatures = 64", 2, ["generator.features = 64", "a list"]),
    ("[generator]\nfeatures = [64, 'x']", 2, ["a whole number"]),
    ("[generator]\nstart = [1.0]", 2, ["2 values"]),
    ("[game]\nupdate = 'both'", 2, ["'both'", "alternating, simultaneous"]),
    ("[data]\nname = ['ring']", 2, ["text in quotes"]),
    ("[critic]\nfeatures = [8, 0]", 2, ["critic.features = 0", "at least 1"]),
    ("steps = 2_147_483_648", 1, ["steps = 2147483648", "below 2147483648"]),
    ("[critic_optimizer]\nb1 = 1.0", 2, ["critic_optimizer.b1 = 1.0", "at least 0 and below 1"]),
    ("[critic_optimizer]\nlearning_rate = nan", 2, ["critic_optimizer.learning_rate = nan", "finite and above 0"]),
    ("[penalty]\nnames = ['roth', 'r3']", 2, ["penalty.names = 'r3'", "did you mean r2?"]),
    ("critic = 3", 1, ["critic is a table", "[critic]"]),
    ("[[data]]\nname = 'ring'", None, ["data is a table"]),
    ("[seed]\nx = 1", 1, ["seed = {'x': 1}", "a whole number"]),
    ("[critic_optimizer]\nlearning_rate = " + "9" * 400, 2, ["critic_optimizer.learning_rate"]),
    ("steps = 1\nsteps = 2", None, ["not valid TOML", "line 2"]),
    ("[data]\n[data]", None, ["not valid TOML", "line 2"]),
    ("steps 5", None, ["not valid TOML", "line 1"]),
    ("seed = " + "9" * 5000, None, ["not valid TOML"]),
    ("seed = " + "[" * 100_000, None, ["not valid TOML"]),
]


@pytest.mark.parametrize("text, line, words", WRONG, ids=[text[:30] for text, *_ in WRONG])
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, line, words):
    path = tmp_path / "my run.toml"
    path.write_text(text + "\n", encoding="utf-8")
    said = refusal(path)
    assert line is None or said.startswith(f"{path}:{line}: ")
    assert not [word for word in words if word not in said]


UNREADABLE = {
    "missing": (lambda path: None, "no such config file"),
    "a directory": (Path.mkdir, "no such config file"),
    "not UTF-8": (lambda path: path.write_bytes("divergence = 'kl' # é".encode("latin-1")), "not valid TOML"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "not valid TOML"),
    "2 MiB": (lambda path: path.write_text("# \n" * 700_000), "2100000 bytes"),
    "a pipe": (os.mkfifo, "no such config file"),  # must not wait for a writer
}


@pytest.mark.parametrize("make, words", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_is_refused_at_once(tmp_path, make, words):
    make(tmp_path / "c.toml")
    assert words in refusal(tmp_path / "c.toml")


def test_a_missing_file_points_at_the_shipped_ones(monkeypatch):
    monkeypatch.chdir(SHIPPED[0].parents[1])
    with pytest.raises(ConfigError, match=f"configs/{SHIPPED[0].name}"):
        load("configs/rign.toml")


NAN, INF = float("nan"), float("inf")
IMPOSSIBLE = [
    *[(name, 0) for name in ("steps", "batch", "seeds", "log.every", "log.evaluate", "log.checkpoint")],
    *[(name, 0) for name in ("generator.latent", "game.critic_steps")],
    *[(name, -1) for name in ("steps", "batch", "seed", "seeds", "log.samples", "penalty.weight")],
    *[("seed", 2**32), ("seed", 2**70), ("seeds", 2**32), ("steps", 2**31)],
    *[("generator.features", (64, 0)), ("critic.features", (-1,))],
    *[(f"{who}_optimizer.learning_rate", v) for who in ("generator", "critic") for v in (NAN, INF, 0.0, -1e-3)],
    *[("critic_optimizer.b1", v) for v in (1.0, -0.1, NAN)],
    *[("critic_optimizer.b2", v) for v in (1.0, -0.1, NAN)],
    *[(f"generator_optimizer.{name}", v) for name in ("clip", "final") for v in (-1.0, NAN, INF)],
    ("critic_optimizer.schedule", "exponential"),
    *[("penalty.weight", v) for v in (NAN, INF)],
    *[(f"critic.{name}", v) for name in ("output_bound", "out_of_bound_penalty") for v in (-1.0, NAN, INF)],
    ("critic.out_of_bound_penalty", 0.5),
    *[(name, v) for name in ("generator.gain", "critic.gain") for v in (0.0, -1.0, NAN)],
    *[
        ("critic.frequencies", -1),
        ("instance_noise.start", -0.1),
        ("instance_noise.start", NAN),
        ("instance_noise.start", 0.001),
    ],
    *[(f"instance_noise.{name}", v) for name in ("end", "fall") for v in (0.0, -1.0, NAN, INF)],
    *[("instance_noise.overlap", v) for v in ((0.0, 0.1), (0.1, -1.0), (NAN, 0.1))],
    *[("game.smoothing", v) for v in (2.0, (2.0,), (0.0, 0.5), (2.0, -1.0), (2.0, NAN))],
    *[("generator.average", v) for v in (1.0, -0.5, NAN)],
    *[("generator.start", v) for v in ((0.0, 0.0), (0.0, -1.0), (NAN, 1.0), (0.0, NAN), (INF, 1.0), (0.0, INF))],
    *[("log.evaluate", 150), ("log.checkpoint", 250)],
    *[("generator.nonlinearity", "rleu"), ("critic.nonlinearity", ""), ("penalty.names", ("r1", "r3"))],
    *[("critic.bound", "donsker_varadhan"), ("data.name", "samples")],
]


@pytest.mark.parametrize("name, value", IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_name(name, value):
    with pytest.raises(ConfigError) as error:
        check(changed(name, value))
    expected = "data.path" if name == "data.name" else name.removesuffix(".b1").removesuffix(".b2")
    assert expected in str(error.value) and "\n" not in str(error.value)


POSSIBLE = [
    *[("seed", 2**32 - 2), ("steps", 2**31 - 1), ("batch", 1), ("log.samples", 2), ("penalty.weight", 0.0)],
    *[("critic_optimizer.b1", 0.0), ("generator.average", 0.999), ("generator.start", (-3.0, 1e-3))],
    *[("critic.features", ()), ("penalty.names", ("r1", "r2")), ("divergence", "alpha(0.3)")],
    *[
        ("penalty.names", tuple(PENALTIES)),
        ("instance_noise.start", 0.005),
        ("instance_noise.start", 1.0),
        ("critic.frequencies", 8),
    ],
]


@pytest.mark.parametrize("name, value", POSSIBLE)
def test_a_possible_value_passes(name, value):
    c = changed(name, value)
    assert check(c) is c


def test_roth_is_refused_where_it_is_zero():
    roth = config.Penalty(names=("roth",))
    kinked = dataclasses.replace(Config(), divergence="total_variation", penalty=roth)
    assert check(kinked) is kinked  # its critic trains under js
    with pytest.raises(ConfigError, match=r"roth is zero for total_variation.*r1"):
        check(dataclasses.replace(kinked, critic=config.Critic(divergence="total_variation")))


def test_combinations_that_contradict_each_other():
    both = dataclasses.replace(Config(), game=config.Game(update="simultaneous", critic_steps=2))
    with pytest.raises(ConfigError, match=r"game\.critic_steps must be 1"):
        check(both)
    critic = config.Critic(bound="donsker_varadhan")
    kl = dataclasses.replace(Config(), divergence="kl", critic=critic)
    alias = dataclasses.replace(kl, critic=dataclasses.replace(critic, divergence="forward_kl"))
    assert check(kl) is kl and check(alias) is alias
    for other in (
        dataclasses.replace(kl, critic=dataclasses.replace(critic, divergence="js")),
        dataclasses.replace(alias, divergence="js"),
        dataclasses.replace(kl, game=config.Game(objective="ratio")),
    ):
        with pytest.raises(ConfigError, match=r"critic\.bound"):
            check(other)


@pytest.mark.parametrize("name", ["divergence", "critic.divergence"])
def test_an_unknown_divergence_names_the_nearest(name):
    with pytest.raises(UnknownDivergence, match="did you mean pearson"):
        check(changed(name, "pearsn"))
