"""What a run is: frozen dataclasses, TOML files that hold only what differs from them, and checks at the door.

`load` reads a file, the command line applies overrides by dotted name, `to_toml` writes the resolved whole. Unknown
keys, wrong types and impossible values raise ConfigError naming the file, the line and the nearest name.

Imports nothing heavy: the command line shows its help from here.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

SIZE_LIMIT = 1 << 20  # bytes of a config file; an honest one has a few hundred


class ConfigError(ValueError):
    """A config that cannot be run; the message is one line with the remedy."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the real samples come from."""

    name: Literal[
        "mixture_1d",
        "two_modes",
        "ring",
        "grid",
        "two_moons",
        "swiss_roll",
        "high_dimensional",
        "digits",
        "images",
        "samples",
    ] = "ring"
    """A target of estimators.distributions.examples, a mixture of estimators.distributions.subspaces, the digits, your own folder of images, or your
    own file of samples."""
    path: str = ""
    """For name = samples the file: .npy .npz .csv .tsv .parquet, IDX (.gz); for name = images the folder that holds
    MNIST's, Fashion-MNIST's or EMNIST's IDX files (.gz or not)."""
    key: str = ""
    """Which member of an .npz to read; for images, which split of EMNIST."""
    nan_policy: Literal["raise", "omit"] = "raise"
    """What to do with rows that hold NaN or inf."""
    flatten: bool = False
    """Flatten image stacks to rows."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The generator network."""

    kind: Literal["mlp", "location_scale", "image"] = "mlp"
    """location_scale is μ + σz, the f-GAN paper's toy; image doubles a small picture twice by convolutions."""
    features: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers; channels of an image network."""
    nonlinearity: str = "relu"
    """tanh, relu, leaky_relu, elu, silu, gelu or softplus."""
    latent: int = 2
    """Dimension of the noise z ~ N(0, I)."""
    start: tuple[float, float] = (0.0, 1.0)
    """(μ, σ) at the start, for location_scale."""
    gain: float = 1.0
    """Factor on what enters each nonlinearity of an mlp; above 1, its transitions between modes are sharper."""
    linear: int = 0
    """Further coordinates of the noise that pass an mlp by, through one linear map: width within modes where its units
    saturate, the same for all."""
    average: float = 0.0
    """Decay of the exponential moving average that `sample` uses; 0 switches it off."""


@dataclass(frozen=True, kw_only=True)
class Critic:
    """The critic network and its bound."""

    kind: Literal["mlp", "image"] = "mlp"
    """image: two strided convolutions."""
    features: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers; channels of an image network."""
    nonlinearity: str = "tanh"
    """tanh, relu, leaky_relu, elu, silu, gelu or softplus."""
    gain: float = 1.0
    """Factor on what enters each nonlinearity of an mlp."""
    frequencies: int = 0
    """Octaves of sines and cosines of the inputs that an mlp sees beside them; for detail far finer than the data."""
    activation: Literal["default", "log_ratio", "paper"] = "default"
    """Output activation: the divergence's default, the log-ratio form, or the f-GAN paper's."""
    output_bound: float = 0.0
    """Squash raw outputs into ±output_bound, which keeps every divergence finite on disjoint supports; 0 leaves them free."""
    out_of_bound_penalty: float = 0.0
    """Weight, in the critic's loss, of what raw outputs exceed output_bound by, squared: a way back where it has no slope."""
    lipschitz: float = 0.0
    """Largest slope of an mlp's raw output, per unit of the points as the networks see them: its bound is then that of
    an (f,Γ)-divergence, finite on disjoint supports; 0 leaves it free."""
    bound: Literal["fenchel", "donsker_varadhan"] = "fenchel"
    """The variational bound; donsker_varadhan for kl only."""
    divergence: str = ""
    """Train the critic under another divergence than the generator; the generator then works through the ratio.
    Empty: the same (js for total_variation and hockey_stick, whose own critic gives the generator no gradient)."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """How the two networks meet."""

    objective: Literal["minimax", "alternative", "ratio", "kl_gradient"] = "minimax"
    """Generator's objective: minimise the bound, the paper's alternative (maximise E_Q[T]), the named divergence
    through the critic's ratio (always so where the critic trains under another divergence), or KL(data‖model) through
    that ratio, which keeps the balance of modes (a divergence with a kink keeps its smoothed ratio)."""
    smoothing: float = 0.2
    """Width, in nats of log-ratio, of the smoothed step that trains a generator under total_variation."""
    normalise: bool = False
    """Divide the critic's loss and penalty by f''(1), the weights of the generator's samples by their batch mean."""
    update: Literal["alternating", "simultaneous"] = "alternating"
    """simultaneous is the paper's single-step method."""
    critic_steps: int = 1
    """Critic updates a generator update, when alternating."""


@dataclass(frozen=True, kw_only=True)
class InstanceNoise:
    """Noise on both measures that fades as they meet: a spread divergence."""

    start: float = 0.0
    """Its standard deviation at the start, in the units the networks see (known targets beyond the line: their own
    deviation is 1); 0 adds none. Above 1 the critic sees points over √(1 + level²), so that noise that joins modes in
    many dimensions, as wide as their distance, leaves its inputs of one scale."""
    end: float = 0.005
    """The smallest it gets."""
    overlap: tuple[float, float] = (0.02, 0.5)
    """The bound, over f''(1), that the noise is held at while it fades: in the first step and in the last."""
    fall: float = 0.25
    """Share of the steps that it takes to fade if nothing holds it up."""


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Gradient penalties."""

    names: Annotated[tuple[str, ...], arg(aliases=["--penalty"])] = ()
    """Any of jsd, geometric_jsd, first_variation, roth, r1, r2, r1_r2, wgan_gp, dragan, none; several add up."""
    weight: float = 1.0
    """λ, the factor of each."""
    on: Literal["critic", "generator"] = "critic"
    """Whose loss they are added to."""
    schedule: Literal["constant", "annealed", "cosine"] = "constant"
    """How λ goes: annealed falls as 0.01^(t/T), cosine to 0."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optax optimiser by name."""

    name: Literal["adam", "optimistic_adam", "adamw", "rmsprop", "sgd", "lion"] = "adam"
    learning_rate: float = 1e-3
    b1: float = 0.5
    """First moment's decay (adam family, lion); momentum for sgd."""
    b2: float = 0.9
    """Second moment's decay (adam family, lion, rmsprop)."""
    schedule: Literal["constant", "cosine", "linear", "exponential"] = "constant"
    final: float = 0.0
    """Share of the learning rate that the schedule ends at; exponential needs one above 0."""
    clip: float = 0.0
    """Global gradient norm to clip at; 0 never clips."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a run is spread over devices; a run may go on under another."""

    engine: Literal["pmap", "sharded"] = "pmap"
    """pmap gives each device its share of the batch; sharded lets the compiler divide one program over a mesh."""
    parameters: Literal["replicated", "sharded"] = "replicated"
    """sharded keeps 1/n of parameters and optimiser states on each of n devices, for networks too large for one; takes
    engine = sharded."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a run writes, and when."""

    every: int = 100
    """Steps a metrics line, and a compiled call; must divide the others."""
    evaluate: int = 1000
    """Steps between evaluations and figures."""
    checkpoint: int = 1000
    """Steps between checkpoints."""
    samples: int = 2500
    """Generated samples an evaluation scores."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    model: str = "fgan"
    """What is trained: a file of fgan.models."""
    divergence: str = "js"
    """The divergence D_f(data‖model) to minimise: a name of `fgan divergences`, such as kl or alpha(0.5)."""
    seed: int = 0
    seeds: int = 1
    """How many seeds to train at once (vmapped): seed, seed + 1, …"""
    steps: int = 10_000
    """Generator updates."""
    batch: int = 256
    """Samples of P and of Q an update, over all devices together."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """What the networks multiply in; parameters, optimisers, losses and means stay in float32."""
    data: Data = field(default_factory=Data)
    generator: Generator = field(default_factory=Generator)
    critic: Critic = field(default_factory=Critic)
    game: Game = field(default_factory=Game)
    penalty: Penalty = field(default_factory=Penalty)
    instance_noise: InstanceNoise = field(default_factory=InstanceNoise)
    generator_optimizer: Optimizer = field(default_factory=Optimizer)
    critic_optimizer: Optimizer = field(default_factory=Optimizer)
    parallel: Parallel = field(default_factory=Parallel)
    log: Log = field(default_factory=Log)


def load(path: str | Path) -> Config:
    """The Config in a TOML file. Raises ConfigError naming file, line and nearest name."""
    return from_toml(read(path), str(path))


def read(path: str | Path, *, folder: str = "configs") -> str:
    """The text of a TOML file of moderate size; where there is none, the error lists those in `folder`."""
    file = Path(path)
    if not file.is_file():
        found = sorted(str(p) for p in Path(folder).glob("*.toml"))
        choices = f"; the shipped ones are {', '.join(found)}" if found else ""
        raise ConfigError(f"{path}: no such config file{choices}")
    if file.stat().st_size > SIZE_LIMIT:
        raise ConfigError(f"{path}: {file.stat().st_size} bytes is no config; at most {SIZE_LIMIT} are read")
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def from_toml(text: str, name: str = "config.toml") -> Config:
    """The Config in TOML text, called `name` in messages. Raises ConfigError."""
    return overlay(Config(), parse(text, name), Place(name, text))


def parse(text: str, name: str) -> dict[str, Any]:
    """The table in TOML text, called `name` in messages. Raises ConfigError."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides its own error: integers too long, brackets too deep
        raise ConfigError(f"{name}: not valid TOML: {error}") from None


def overlay(config: Config, table: Mapping[str, Any], place: Place) -> Config:
    """`config` with the fields that `table`, read at `place`, holds. Raises ConfigError."""
    return _overlay(config, table, "", place)


def to_toml(config: Config) -> str:
    """Every field of `config` as TOML, tables last, so that from_toml(to_toml(c)) == c."""
    lines: list[str] = []
    nested = []
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            nested.append((f.name, value))
        else:
            lines.append(f"{f.name} = {literal(value)}")
    for name, group in nested:
        lines += ["", f"[{name}]"]
        lines += [f"{f.name} = {literal(getattr(group, f.name))}" for f in dataclasses.fields(group)]
    return "\n".join(lines) + "\n"


def check(config: Config) -> Config:
    """`config` itself, if it can be run. Raises ConfigError for the first value that cannot be."""
    from estimators.critics.networks import NONLINEARITIES
    from estimators.divergences.bounds import BOUNDS
    from estimators.divergences.table import divergence
    from fgan.models.penalties import PENALTIES

    row = divergence(config.divergence)  # UnknownDivergence is a ValueError with its own remedy
    trained = divergence(config.critic.divergence or row)
    if config.critic.bound not in BOUNDS:
        raise ConfigError(f"critic.bound = {config.critic.bound!r}: choose from {', '.join(BOUNDS)}")
    if config.critic.bound == "donsker_varadhan" and trained.name != "kl":
        raise ConfigError("critic.bound = donsker_varadhan bounds kl only; use fenchel, or divergence = kl")
    if config.critic.bound == "donsker_varadhan" and (
        config.game.objective in ("ratio", "kl_gradient") or row.name != "kl"
    ):
        raise ConfigError(
            "critic.bound = donsker_varadhan finds log p/q only up to a constant; use fenchel for a ratio"
        )
    for group in ("generator", "critic"):
        name = getattr(config, group).nonlinearity
        if name not in NONLINEARITIES:
            raise ConfigError(f"{group}.nonlinearity = {name!r}: {nearest(name, NONLINEARITIES)}")
    if config.critic.lipschitz and config.critic.kind != "mlp":
        raise ConfigError(
            f"critic.lipschitz = {config.critic.lipschitz}: bounds an mlp only; set critic.kind = mlp, or 0"
        )
    if config.critic.lipschitz and config.critic.frequencies:
        raise ConfigError(
            f"critic.lipschitz = {config.critic.lipschitz}: sines of frequencies have no common slope; set "
            "critic.frequencies = 0"
        )
    for name in config.penalty.names:
        if name not in PENALTIES:
            raise ConfigError(f"penalty.names: {name!r}: {nearest(name, PENALTIES)}")
    if "roth" in config.penalty.names and config.critic.divergence and not trained.smooth:  # js trains if none is named
        raise ConfigError(f"penalty.names: roth is zero for {trained.name}, whose f has a kink; use r1 or r2")
    if 0.0 < config.instance_noise.start < config.instance_noise.end:
        raise ConfigError(
            f"instance_noise.start = {config.instance_noise.start}: must not be below instance_noise.end = {config.instance_noise.end}"
        )
    if config.data.name == "samples" and not config.data.path:
        raise ConfigError("data.path is empty: name your file of samples, as in --data.path samples.npy")
    if config.data.name == "images" and not config.data.path:
        raise ConfigError("data.path is empty: name the folder of your IDX files, as in --data.path ~/mnist")
    if config.parallel.parameters == "sharded" and config.parallel.engine != "sharded":
        raise ConfigError("parallel.parameters = sharded takes --parallel.engine sharded; pmap holds a copy a device")
    if config.game.update == "simultaneous" and config.game.critic_steps != 1:
        raise ConfigError("game.critic_steps must be 1 when game.update = simultaneous")
    for name, low in _AT_LEAST.items():
        value = get(config, name)
        if any(not math.isfinite(v) or v < low for v in (value if isinstance(value, tuple) else (value,))):
            raise ConfigError(f"{name} = {value}: must be finite and at least {low}")
    for group in ("generator_optimizer", "critic_optimizer"):
        optimizer = getattr(config, group)
        if not (math.isfinite(optimizer.learning_rate) and optimizer.learning_rate > 0.0):
            raise ConfigError(f"{group}.learning_rate = {optimizer.learning_rate}: must be positive and finite")
        if not (0.0 <= optimizer.b1 < 1.0 and 0.0 <= optimizer.b2 < 1.0):
            raise ConfigError(f"{group}: b1 = {optimizer.b1} and b2 = {optimizer.b2} must lie in [0, 1)")
        if optimizer.schedule == "exponential" and not optimizer.final > 0.0:
            raise ConfigError(f"{group}.schedule = exponential never ends at 0; set {group}.final, such as 0.01")
    if config.critic.out_of_bound_penalty and not config.critic.output_bound:
        raise ConfigError(
            f"critic.out_of_bound_penalty = {config.critic.out_of_bound_penalty}: leads back within critic.output_bound, which is 0; set both"
        )
    if not 0.0 <= config.generator.average < 1.0:
        raise ConfigError(f"generator.average = {config.generator.average}: must lie in [0, 1)")
    if not (all(map(math.isfinite, config.generator.start)) and config.generator.start[1] > 0.0):
        raise ConfigError(f"generator.start = {config.generator.start}: must be finite, σ positive")
    if config.seed + config.seeds >= 2**32:
        raise ConfigError(f"seed = {config.seed}, seeds = {config.seeds}: must stay below 2^32, as uint32")
    if config.steps >= 2**31:
        raise ConfigError(f"steps = {config.steps}: must be below 2^31, as int32")
    for name in ("log.evaluate", "log.checkpoint"):
        if get(config, name) % config.log.every:
            raise ConfigError(f"{name} = {get(config, name)} must be a multiple of log.every = {config.log.every}")
    return config


_AT_LEAST: Mapping[str, float] = {
    "seed": 0,
    "seeds": 1,
    "steps": 1,
    "batch": 1,
    "generator.latent": 1,
    "generator.linear": 0,
    "generator.features": 1,
    "critic.features": 1,
    "game.critic_steps": 1,
    "game.smoothing": 1e-3,
    "critic.output_bound": 0.0,
    "critic.out_of_bound_penalty": 0.0,
    "generator.gain": 1e-6,
    "critic.gain": 1e-6,
    "critic.frequencies": 0,
    "critic.lipschitz": 0.0,
    "penalty.weight": 0.0,
    "instance_noise.start": 0.0,
    "instance_noise.end": 1e-6,
    "instance_noise.overlap": 1e-6,
    "instance_noise.fall": 1e-6,
    "generator_optimizer.final": 0.0,
    "critic_optimizer.final": 0.0,
    "generator_optimizer.clip": 0.0,
    "critic_optimizer.clip": 0.0,
    "log.every": 1,
    "log.evaluate": 1,
    "log.checkpoint": 1,
    "log.samples": 2,
}


def get(config: Config, dotted: str) -> Any:
    """The value of a field by its dotted name, as in `get(config, "log.every")`."""
    value: Any = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def replace(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values by dotted name, as in `replace(config, {"penalty.weight": 2.0})`."""
    for dotted, value in values.items():
        group, _, name = dotted.rpartition(".")
        changed = {group: dataclasses.replace(getattr(config, group), **{name: value})} if group else {name: value}
        config = dataclasses.replace(config, **changed)
    return config


def typed(dotted: str, value: Any, place: Place) -> Any:
    """`value`, read at `place`, as the type of the field of that dotted name. Raises ConfigError."""
    kind: Any = Config
    for part in dotted.split("."):
        kind = typing.get_type_hints(kind)[part]
    return _typed(kind, value, dotted, place)


def names(cls: type = Config, prefix: str = "") -> Iterator[str]:
    """Every field's dotted name."""
    for f, kind in _fields(cls):
        if dataclasses.is_dataclass(kind):
            yield from names(kind, f"{prefix}{f.name}.")  # type: ignore[arg-type]
        else:
            yield prefix + f.name


# ---------------------------------------------------------------------------------------------------------------------


class Place(typing.NamedTuple):
    """A file and its text, to say where a key stands; `within`, with its dot, is the table that keys are asked of."""

    name: str
    text: str
    within: str = ""

    def of(self, dotted: str) -> str:
        """file:line of a key, of the table that holds it inline, or the file alone."""
        section = ""
        for number, line in enumerate(self.text.splitlines(), 1):
            if header := re.match(r"\s*\[\s*([\w.]+)\s*\]", line):
                section = here = header[1]
            elif key := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
                here = f"{section}.{key[1]}" if section else key[1]
            else:
                continue
            if here == self.within + dotted:
                return f"{self.name}:{number}"
        table = dotted.rpartition(".")[0]
        return self.of(table) if table else self.name


def _overlay(base: Any, table: Mapping[str, Any], prefix: str, place: Place) -> Any:
    known = {f.name: kind for f, kind in _fields(type(base))}
    values = {}
    for key, value in table.items():
        dotted = prefix + key
        if key not in known:
            choices = dict.fromkeys([*(prefix + k for k in known), *names()])
            raise ConfigError(f"{place.of(dotted)}: unknown key {dotted!r}: {nearest(dotted, choices)}")
        if dataclasses.is_dataclass(known[key]):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{place.of(dotted)}: {dotted} is a table; write [{dotted}] and its keys below")
            values[key] = _overlay(getattr(base, key), value, dotted + ".", place)
        else:
            values[key] = _typed(known[key], value, dotted, place)
    return dataclasses.replace(base, **values)


def _fields(cls: type):
    hints = typing.get_type_hints(cls)
    return [(f, hints[f.name]) for f in dataclasses.fields(cls)]


def _typed(kind: Any, value: Any, dotted: str, place: Place) -> Any:
    """`value` as `kind`: no silent conversion but int → float and list → tuple."""

    def wrong(expected):
        return ConfigError(f"{place.of(dotted)}: {dotted} = {value!r}: expected {expected}")

    origin = typing.get_origin(kind)
    if origin is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            raise wrong(f"one of {', '.join(map(str, choices))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise wrong("a list")
        inner = typing.get_args(kind)
        item = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(item) != len(value):
            raise wrong(f"{len(item)} values")
        return tuple(_typed(k, v, dotted, place) for k, v in zip(item, value, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise wrong({int: "a whole number", float: "a number", str: "text in quotes", bool: "true or false"}[kind])
    return value


def literal(value: Any) -> str:
    """`value` as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON leaves DEL, TOML may not
        case tuple():
            return "[" + ", ".join(literal(v) for v in value) + "]"
        case float() | int():
            return repr(value)
    raise TypeError(f"no TOML for {value!r} of {type(value)}")


def nearest(name: str, choices: Iterable[str], otherwise: str = "") -> str:
    """The remedy for a mistyped `name`: the closest of `choices`, else `otherwise`, else all of them."""
    choices = list(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else otherwise or f"choose from {', '.join(choices)}"
