"""What a run is: frozen dataclasses, each field with its default, its bound or choices, and a line of help.

The command line shows its help from here, so this file imports nothing heavy.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from tyro.conf import arg

from estimators.rooms import Room
from fgan.config.fields import Bound, File, OneOf, absolute, is_path, walk

MODELS = Room("fgan.models", "MODELS", "build")
"""Every model by name; each is a file of the room."""

WITHOUT_DIVERGENCE = ("relativistic",)
"""Models that minimise no f-divergence; their `divergence` says nothing."""

Count = Annotated[int, Bound(1)]
NonNegative = Annotated[float, Bound(0.0)]
Positive = Annotated[float, Bound(0.0, above=True)]
Share = Annotated[float, Bound(0.0, below=1.0)]
Small = Annotated[float, Bound(1e-6)]  # far below any useful value, and its square is no zero in float32
Width = Annotated[float, Bound(1e-3)]  # nats; narrower steps leave no sample a slope in float32
Nonlinearity = Annotated[str, OneOf("estimators.critics.networks:NONLINEARITIES")]


@dataclass(frozen=True, kw_only=True)
class Data:
    """Where the real samples come from.

    A path begins at the working directory on the command line. In a TOML file it begins at that file's folder, or at
    the working directory where only that has it. `~` is expanded. What files hold is part of what a run is, where they
    lie is not: a run goes on with files that were moved.
    """

    name: Annotated[str, OneOf("fgan.data.sources:DATASETS")] = "ring"
    """An example distribution with a known density, the handwritten digits, Fashion-MNIST, patches of two photographs,
    stacked, three digits or grey images of your own as the colours of one, or your own: images, a folder of pictures;
    samples, a file of rows."""
    path: Annotated[str, File()] = ""
    """For name = samples the file: .npy .npz .csv .tsv .parquet, IDX (.gz); for name = images a folder of pictures
    (.png, .jpg, .webp, at any depth), one of MNIST's, Fashion-MNIST's or EMNIST's IDX files (.gz or not), pictures in
    one .parquet or a folder of them, or a stack in .npy or .npz; for name = stacked the same of grey images, or nothing
    for the digits."""
    key: str = ""
    """Which member of an .npz to read; for images, which split of EMNIST, or which column of a .parquet."""
    nan_policy: Literal["raise", "omit"] = "raise"
    """What to do with rows that hold NaN or inf."""
    flatten: bool = False
    """Flatten image stacks to rows."""
    side: Annotated[int, Bound(0)] = 0
    """Height and width in pixels that pictures are brought to; 0 where all have one size."""
    fit: Literal["as_is", "crop", "resize"] = "as_is"
    """What becomes of pictures that are not square: crop takes the middle, resize squeezes the whole."""
    colour: Literal["as_is", "grey", "rgb"] = "as_is"
    """What pictures become, where some are grey and others in colour."""
    broken: Literal["raise", "skip"] = "raise"
    """What to do with pictures that are damaged, transparent, animated, of more than 8 bits, huge or not readable."""
    flip: bool = False
    """Mirror half of the training images, left to right, each time they are drawn."""
    shift: Annotated[int, Bound(0)] = 0
    """Move the training images by up to so many pixels along each axis, whenever they are drawn; edges are repeated."""
    keep: Literal["auto", "device", "host"] = "auto"
    """Where the training rows are: on the devices, or on the host, which gathers the rows of the next steps while the
    devices take the present ones; auto by size. It changes no number of a run."""
    condition: bool = False
    """Train on images with their classes: the generator is given the class, which `fgan sample --class` chooses."""
    categorical: tuple[str, ...] = ()
    """Columns of a table whose numbers are names of categories, as postal codes are; by name, or without names by
    number, from 1 in a text, from 0 in an array."""
    drop: tuple[str, ...] = ()
    """Columns of a table to leave out."""
    held_out: Annotated[str, File()] = ""
    """A file of rows to judge a model of a table by, in place of a random fifth of its own."""
    passes: Annotated[int, Bound(0)] = 0
    """Most passes over the rows of a table: few rows, passed over too often, are learnt by heart. A run then has fewer
    steps; 0 sets no limit."""
    columns: Annotated[str, File()] = ""
    """A TOML file with a table [columns] that says of which kind columns are: linear, scores, parts, whole, categories
    or drop."""


@dataclass(frozen=True, kw_only=True)
class Generator:
    """The generator network."""

    kind: Annotated[str, OneOf("fgan.networks.generators:GENERATORS")] = "mlp"
    """location_scale is μ + σz, the generator of the f-GAN paper's one-dimensional example; image doubles a small
    picture by convolutions, once for each width; residual does so by interpolation, with residual blocks at each width;
    flow is invertible, so that its density and the exact divergence are known."""
    features: tuple[Count, ...] = (64, 64)
    """Widths of the hidden layers; channels of an image network."""
    nonlinearity: Nonlinearity = "relu"
    latent: Count = 2
    """Dimension of the noise z ~ N(0, I)."""
    start: tuple[Annotated[float, Bound(-math.inf, above=True)], Positive] = (0.0, 1.0)
    """(μ, σ) at the start, for location_scale."""
    gain: Small = 1.0
    """Factor on the input of each nonlinearity of an mlp; above 1, its transitions between modes are sharper."""
    linear: Annotated[int, Bound(0)] = 0
    """Further coordinates of the noise, added to the output of an mlp through one linear map. They give all modes the
    same width where the mlp's units saturate."""
    linear_start: Positive = 0.1
    """Deviation that they add to each coordinate at the start. Narrower than the modes; in many dimensions, where a
    critic hardly sees widths, training changes it little."""
    components: Annotated[int, Bound(0, below=65)] = 0
    """Most Gaussians of the mixture, fitted to the rows of a file, that an mlp begins as; each keeps its share of the
    samples, so that a rare group of rows is not lost. 0 begins at random."""
    layers: Annotated[int, Bound(2, below=9)] = 4
    """Couplings of a flow, each with a conditioner of `features`; its noise has the dimension of the data."""
    bins: Annotated[int, Bound(1, below=33)] = 8
    """Bins of a flow's splines; few make a flow that bends little."""
    blocks: Count = 1
    """Blocks of a residual network at each scale."""
    group: Annotated[int, Bound(0)] = 0
    """Channels of a group of its 3 × 3 convolutions, of twice the width; 0 joins all, of half the width."""
    average: Share = 0.0
    """Decay of the exponential moving average of the parameters, which `sample` uses; 0 switches it off."""


@dataclass(frozen=True, kw_only=True)
class Critic:
    """The critic network and its bound."""

    kind: Annotated[str, OneOf("fgan.networks.critics:CRITICS")] = "mlp"
    """image: a strided convolution for each width; residual: residual blocks at each width, halved by interpolation."""
    features: tuple[Count, ...] = (64, 64)
    """Widths of the hidden layers; channels of an image network."""
    nonlinearity: Nonlinearity = "tanh"
    gain: Small = 1.0
    """Factor on the input of each nonlinearity of an mlp."""
    frequencies: Annotated[int, Bound(0)] = 0
    """Octaves of sines and cosines of the inputs that an mlp takes beside them; for detail far finer than the data."""
    blocks: Count = 1
    """Blocks of a residual network at each scale."""
    group: Annotated[int, Bound(0)] = 0
    """Channels of a group of its 3 × 3 convolutions, of twice the width; 0 joins all, of half the width."""
    activation: Literal["default", "log_ratio", "paper"] = "default"
    """Output activation: the divergence's default, the log-ratio form, or the f-GAN paper's."""
    output_bound: NonNegative = 0.0
    """Squash raw outputs into ±output_bound, which keeps every divergence finite on disjoint supports; 0 leaves them
    free."""
    out_of_bound_penalty: NonNegative = 0.0
    """Weight, in the critic's loss, of the squared excess of raw outputs over output_bound, where squashing leaves no
    gradient."""
    lipschitz: NonNegative = 0.0
    """Largest slope of an mlp's raw output, per unit of the points as the networks see them: its bound is then that of
    an (f,Γ)-divergence, finite on disjoint supports; 0 leaves it free."""
    bound: Annotated[str, OneOf("estimators.divergences.bounds:BOUNDS")] = "fenchel"
    """The variational bound; donsker_varadhan for kl only."""
    divergence: str = ""
    """Train the critic under another divergence than the generator; the generator then works through the ratio.
    Empty: the same (js for total_variation and hockey_stick, whose own critic gives the generator no gradient)."""


@dataclass(frozen=True, kw_only=True)
class Game:
    """How the two networks meet."""

    objective: Annotated[str, OneOf("fgan.models.objectives:OBJECTIVES")] = "minimax"
    """What the generator minimises: the bound, the paper's alternative (maximise E_Q[T]), the named divergence
    through the critic's ratio (always so where the critic trains under another divergence), or KL(data‖model) through
    that ratio, which keeps the balance of modes (a divergence with a kink keeps its smoothed ratio)."""
    smoothing: tuple[Width, Width] = (0.2, 0.2)
    """Width, in nats of log-ratio, of the smoothed step that trains a generator under total_variation: its value in the
    first step and in the last."""
    normalise: bool = False
    """Divide the critic's loss and penalty by f''(1), the weights of the generator's samples by their batch mean."""
    update: Literal["alternating", "simultaneous"] = "alternating"
    """simultaneous is the paper's single-step method."""
    critic_steps: Count = 1
    """Critic updates a generator update, when alternating."""
    generator_batches: Count = 1
    """Batches of generated samples in a generator update. More of them balance modes better, most of all under
    divergences that weigh samples between modes, such as reverse_kl and neyman."""


@dataclass(frozen=True, kw_only=True)
class InstanceNoise:
    """Gaussian noise on real and generated samples, which fades as the two distributions meet."""

    start: NonNegative = 0.0
    """Its standard deviation σ at the start, in the units the networks see (known targets of two dimensions and more
    have deviation 1); 0 adds none. Above 1 the critic's inputs are divided by √(1 + σ²), which keeps them of one scale
    where the noise must be as wide as the distance of modes in many dimensions."""
    end: Small = 0.005
    """The smallest standard deviation."""
    overlap: tuple[Small, Small] = (0.02, 0.5)
    """The noise falls while the bound over f''(1) is below this, and waits or rises above it: its value in the first
    step and in the last."""
    fall: Small = 0.25
    """Share of the steps that it takes to fade if nothing holds it up."""


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """Gradient penalties."""

    names: Annotated[
        tuple[Annotated[str, OneOf("fgan.models.penalties:PENALTIES")], ...], arg(aliases=["--penalty"])
    ] = ()
    """Which; several add up."""
    weight: NonNegative = 1.0
    """λ, the factor of each."""
    on: Literal["critic", "generator"] = "critic"
    """Whose loss they are added to."""
    schedule: Annotated[str, OneOf("fgan.models.penalties:SCHEDULES")] = "constant"
    """How λ changes: annealed falls as 0.01^(t/T), cosine to 0."""


@dataclass(frozen=True, kw_only=True)
class Vae:
    """The variational autoencoder of model = vae. generator_optimizer trains it."""

    features: tuple[Count, ...] = (128,)
    """Widths of the hidden layers of the encoder, and of the decoder in reverse order; none makes both linear."""
    nonlinearity: Nonlinearity = "silu"
    latent: Count = 8
    """Dimension of z ~ N(0, I)."""
    likelihood: Annotated[str, OneOf("fgan.models.likelihoods:LIKELIHOODS")] = "gaussian"
    """p(x|z): gaussian about the decoder's output, or bernoulli for images, whose grey levels are probabilities."""
    deviation: NonNegative = 0.0
    """Standard deviation of a gaussian likelihood, in the units the networks see; 0 learns one for all coordinates."""
    regulariser: Annotated[str, OneOf("fgan.models.vae:REGULARISERS")] = "kl"
    """What is minimised beside the distortion: KL(q(z|x)‖prior), which makes the ELBO, the geometric Jensen–Shannon
    divergence or its dual in its place; or instead of the sum a bound on log p(x) from several draws of z."""
    weight: NonNegative = 1.0
    """β, the factor on the regulariser; in a bound from several draws, on log prior − log q."""
    alpha: Share = 0.5
    """α of the geometric Jensen–Shannon divergence between q(z|x) and the prior."""
    convention: Literal["nielsen", "deasy"] = "deasy"
    """Its convention: deasy runs from KL(q‖prior) at α = 0 to KL(prior‖q) at 1, the dual the other way round; nielsen
    is 0 at both ends."""
    divergence: str = "squared_hellinger"
    """The divergence of regulariser = f_bound, one whose f'(∞) is finite; reverse_kl has the ELBO."""
    draws: Count = 1
    """Draws of z for each row of a batch."""
    annealing: Annotated[str, OneOf("estimators.objectives.annealing:ANNEALING")] = "none"
    """How the weight rises from 0 to β while training."""
    rise: Annotated[float, Bound(0.0, below=1.0, above=True)] = 0.5
    """Share of the steps, or of a cycle, that the rise takes."""
    cycles: Count = 4
    """Cycles of annealing = cyclical."""
    free_bits: NonNegative = 0.0
    """Nats that each coordinate of z may carry, on average over a batch, without paying."""


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """An optax optimiser by name."""

    name: Annotated[str, OneOf("fgan.models.players:OPTIMIZERS")] = "adam"
    learning_rate: Positive = 1e-3
    b1: Share = 0.5
    """Decay of the first moment (adam family, lion); momentum for sgd."""
    b2: Share = 0.9
    """Decay of the second moment (adam family, lion, rmsprop)."""
    schedule: Annotated[str, OneOf("fgan.models.players:SCHEDULES")] = "constant"
    """How the learning rate changes."""
    final: NonNegative = 0.0
    """Share of the learning rate that the schedule ends at; exponential needs one above 0."""
    clip: NonNegative = 0.0
    """Global gradient norm to clip at; 0 never clips."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """How a run is spread over devices; a run may resume under another setting."""

    engine: Literal["pmap", "sharded"] = "pmap"
    """pmap gives each device its share of the batch; sharded lets the compiler divide one program over a mesh."""
    parameters: Literal["replicated", "sharded"] = "replicated"
    """sharded keeps 1/n of parameters and optimiser states on each of n devices, for networks too large for one; it
    needs engine = sharded."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """What a run writes, and when."""

    every: Count = 100
    """Steps between two lines of metrics, which one compiled call makes; `evaluate` and `checkpoint` are multiples."""
    evaluate: Count = 1000
    """Steps between evaluations and figures."""
    checkpoint: Count = 1000
    """Steps between checkpoints."""
    samples: Annotated[int, Bound(2)] = 2500
    """Generated samples an evaluation scores."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    model: Annotated[str, OneOf(MODELS)] = "fgan"
    """What is trained."""
    divergence: str = "js"
    """The divergence D_f(data‖model) to minimise: a name of `fgan divergences`, such as kl or alpha(0.5), or f as a
    formula of u, such as "(u - 1)**2". A vae has kl, since it maximises the likelihood; relativistic has none."""
    seed: Annotated[int, Bound(0)] = 0
    """Seed of every random number of the run."""
    seeds: Count = 1
    """How many seeds to train at once (vmapped): seed, seed + 1, … A member draws the random numbers of the run of its
    seed alone, but is rounded differently. Training magnifies this, so that the two end alike, but not bit for bit."""
    steps: Annotated[int, Bound(1, below=2**31)] = 10_000  # counted in int32
    """Generator updates."""
    schedule_steps: Annotated[int, Bound(0, below=2**31)] = 0
    """Steps that schedules are spread over, after which they stay at their end; 0 for as many as steps."""
    batch: Count = 256
    """Samples of P and of Q a critic update, and of Q in a batch of a generator update, over all devices together."""
    compute: Literal["float32", "bfloat16"] = "float32"
    """What the networks multiply in; parameters, optimisers, losses and means stay in float32."""
    data: Data = field(default_factory=Data)
    generator: Generator = field(default_factory=Generator)
    critic: Critic = field(default_factory=Critic)
    game: Game = field(default_factory=Game)
    penalty: Penalty = field(default_factory=Penalty)
    vae: Vae = field(default_factory=Vae)
    instance_noise: InstanceNoise = field(default_factory=InstanceNoise)
    generator_optimizer: Optimizer = field(default_factory=Optimizer)
    critic_optimizer: Optimizer = field(default_factory=Optimizer)
    parallel: Parallel = field(default_factory=Parallel)
    log: Log = field(default_factory=Log)

    @property
    def minimised(self) -> str:
        """The divergence, in a word; the name of a model that minimises none."""
        return self.model if self.model in WITHOUT_DIVERGENCE else self.divergence

    @property
    def horizon(self) -> int:
        """Steps that schedules are spread over."""
        return self.schedule_steps or self.steps


def names() -> Iterator[str]:
    """The dotted name of every field of a config."""
    return (name for name, _, _ in walk(Config()))


PATHS = tuple(name for name, kind, _ in walk(Config()) if is_path(kind))
"""The fields that hold paths: they say where files lie, and not what a run is."""


def absolute_paths(config: Config) -> Config:
    """`config` with paths that hold wherever one is; relative ones begin at the working directory."""
    return replace(config, {name: absolute(get(config, name)) for name in PATHS})


def get(config: Config, dotted: str) -> Any:
    """The value of a field by its dotted name, as in `get(config, "log.every")`."""
    return functools.reduce(getattr, dotted.split("."), config)


def replace(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with other values by dotted name, as in `replace(config, {"penalty.weight": 2.0})`."""
    for dotted, value in values.items():
        group, _, name = dotted.rpartition(".")
        changed = {group: dataclasses.replace(getattr(config, group), **{name: value})} if group else {name: value}
        config = dataclasses.replace(config, **changed)
    return config
