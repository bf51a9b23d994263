"""Whether a config can be run: each field by its own annotation, then the rules that join several fields."""

import dataclasses

from fgan.config.fields import ConfigError, typed, walk
from fgan.config.schema import Config, Generator

PLAYING = ("critic", "critic_optimizer", "game", "penalty", "instance_noise")
OF_DIVERGENCES = (
    *("critic.divergence", "critic.bound", "critic.activation", "critic.out_of_bound_penalty", "instance_noise"),
    *(f"game.{name}" for name in ("objective", "smoothing", "normalise", "update", "generator_batches")),
)
"""What only a game under a divergence uses."""
UNUSED = {
    "fgan": ("vae",),
    "direct_fit": (*PLAYING, "vae"),
    "vae": (*PLAYING, "generator"),
    "relativistic": (*OF_DIVERGENCES, "vae"),
}
"""model → the groups and fields of a config that it does not use."""


def check(config: Config) -> Config:
    """`config` if it can be run, with names in place of divergences of the user's own (`by_name`).

    Raises ConfigError or UnknownDivergence for the first reason why it cannot be run.
    """
    config = by_name(config)
    for name, kind, value in walk(config):
        typed(name, kind, value)
    rules = _critic_rules(config) | _generator_rules(config) | _step_rules(config)
    rules |= _vae_rules(config) if config.model == "vae" else {}
    rules |= _relativistic_rules(config) if config.model == "relativistic" else {}
    for message, applies in rules.items():
        if applies:
            raise ConfigError(message)
    return config


def by_name(config: Config) -> Config:
    """`config` with names in place of divergences of the user's own, by which this process knows them from now on."""
    if isinstance(config.divergence, str) and isinstance(config.critic.divergence, str):
        return config
    from estimators.divergences.table import known_as  # imports jax

    critic = dataclasses.replace(config.critic, divergence=known_as(config.critic.divergence))
    return dataclasses.replace(config, divergence=known_as(config.divergence), critic=critic)


def unused(config: Config) -> str:
    """One line on what a config sets that its model does not use; "" where there is nothing."""
    default, groups = dict((name, value) for name, _, value in walk(Config())), UNUSED.get(config.model, ())
    names = [n for n, _, v in walk(config) if {n, n.partition(".")[0]} & {*groups} and v != default[n]]
    return f"model = {config.model} does not use {', '.join(names)}: they change nothing" if names else ""


Rules = dict[str, object]
"""Message → whether it applies, for rules that join several fields."""


def _critic_rules(c: Config) -> Rules:
    """Of the critic, its bound and the penalty. Raises UnknownDivergence."""
    from estimators.divergences.table import divergence  # after the fields: it imports jax

    named = divergence(c.divergence)
    trained = divergence(c.critic.divergence or c.divergence)  # of the critic, as far as it is named
    needs_ratio = c.game.objective in ("ratio", "kl_gradient") or named.name != "kl"  # not only up to a constant
    donsker_varadhan = c.critic.bound == "donsker_varadhan"
    return {
        "critic.bound = donsker_varadhan bounds kl only; use fenchel, or divergence = kl": (
            donsker_varadhan and trained.name != "kl"
        ),
        "critic.bound = donsker_varadhan finds log p/q only up to a constant; use fenchel for a ratio": (
            donsker_varadhan and needs_ratio
        ),
        f"critic.lipschitz = {c.critic.lipschitz}: bounds an mlp only; set critic.kind = mlp, or 0": (
            c.critic.lipschitz and c.critic.kind != "mlp"
        ),
        f"critic.lipschitz = {c.critic.lipschitz}: sines of frequencies have no common slope; "
        "set critic.frequencies = 0": c.critic.lipschitz and c.critic.frequencies,
        # Where no divergence of the critic is named, js trains it in place of one with a kink.
        f"penalty.names: roth is zero for {c.critic.divergence}, whose f has a kink; use r1 or r2": (
            "roth" in c.penalty.names and c.critic.divergence and not trained.smooth
        ),
        f"instance_noise.start = {c.instance_noise.start}: must not be below instance_noise.end = "
        f"{c.instance_noise.end}": 0.0 < c.instance_noise.start < c.instance_noise.end,
    }


def _generator_rules(c: Config) -> Rules:
    """Of the generator, the model and the devices."""
    flow = c.generator.kind == "flow"
    return {
        "parallel.parameters = sharded takes --parallel.engine sharded; pmap holds a copy a device": (
            c.parallel.parameters == "sharded" and c.parallel.engine != "sharded"
        ),
        f"generator.linear = {c.generator.linear}: a flow has no noise but its input; set 0, or generator.kind = mlp": (
            flow and c.generator.linear
        ),
        f"generator.start = {c.generator.start}: is for location_scale, and a flow starts at N(0, I); leave it out, or "
        "set generator.kind = location_scale": flow and c.generator.start != Generator().start,
        "generator.kind = flow: its density is exact in float32 only; set compute = float32": (
            flow and c.compute != "float32"
        ),
        "model = direct_fit has no critic and no noise: leave penalty.names empty and instance_noise.start 0": (
            c.model == "direct_fit" and (c.penalty.names or c.instance_noise.start)
        ),
        "game.critic_steps must be 1 when game.update = simultaneous": (
            c.game.update == "simultaneous" and c.game.critic_steps != 1
        ),
        f"critic.out_of_bound_penalty = {c.critic.out_of_bound_penalty}: leads back within critic.output_bound, "
        "which is 0; set both": c.critic.out_of_bound_penalty and not c.critic.output_bound,
    }


def _vae_rules(c: Config) -> Rules:
    """Of the variational autoencoder. Raises UnknownDivergence."""
    from estimators.divergences.table import divergence
    from estimators.objectives.elbo import bounds_from_below

    v = c.vae
    by_draws = v.regulariser in ("f_bound", "importance_weighted")
    return {
        f"divergence = {c.divergence}: model = vae maximises the likelihood, which minimises kl; set divergence = kl": (
            c.divergence != "kl"
        ),
        f"vae.divergence = {v.divergence}: its f'(∞) is infinite, so it has no lower bound on the likelihood; choose "
        "reverse_kl, js, squared_hellinger or alpha(a) with a < 1": (
            not bounds_from_below(divergence(v.divergence)) and v.regulariser == "f_bound"
        ),
        f"vae.regulariser = {v.regulariser}: is the ELBO with one draw; set vae.draws to 2 or more": (
            by_draws and v.draws < 2
        ),
        f"vae.free_bits = {v.free_bits}: vae.regulariser = {v.regulariser} has no rate for each coordinate; set "
        "vae.free_bits = 0, or vae.regulariser = kl": by_draws and v.free_bits,
        f"vae.deviation = {v.deviation}: is for vae.likelihood = gaussian; leave it out": (
            v.deviation and v.likelihood != "gaussian"
        ),
        f"vae.cycles = {v.cycles}: a cycle needs two steps or more, and there are {c.horizon}": (
            v.annealing == "cyclical" and 2 * v.cycles > c.horizon
        ),
        "model = vae has no critic and no noise: leave penalty.names empty and instance_noise.start 0": (
            c.penalty.names or c.instance_noise.start
        ),
    }


def _relativistic_rules(c: Config) -> Rules:
    """Of the relativistic pair, which has no divergence."""
    return {
        f"divergence = {c.divergence}: model = relativistic minimises no f-divergence; leave divergence out, or set "
        "model = fgan": c.divergence != Config().divergence,
        "penalty.on = generator: model = relativistic has penalties on the critic only": (
            c.penalty.on == "generator" and c.penalty.names
        ),
    }


def _step_rules(c: Config) -> Rules:
    """Of the seeds, the data, the schedules and the log."""
    rules: Rules = {f"seed = {c.seed}, seeds = {c.seeds}: must stay below 2^32, as uint32": c.seed + c.seeds >= 2**32}
    rules[f"data.condition: model = {c.model} draws no classes; set model = fgan, or leave it out"] = (
        c.data.condition and c.model != "fgan"
    )
    rules["data.condition: shares of classes need the digits of float32; set compute = float32, or leave it out"] = (
        c.data.condition and c.compute != "float32"
    )
    for name, what in (
        ("samples", "your file of samples, as in --data.path samples.npy"),
        ("images", "the folder of your pictures or IDX files, as in --data.path ~/photos"),
    ):
        rules[f"data.path is empty: name {what}"] = c.data.name == name and not c.data.path
    for who, optimizer in (("generator", c.generator_optimizer), ("critic", c.critic_optimizer)):
        remedy = f"set {who}_optimizer.final, such as 0.01"
        rules[f"{who}_optimizer.schedule = exponential never ends at 0; {remedy}"] = (
            optimizer.schedule == "exponential" and not optimizer.final
        )
    for name, steps in (("evaluate", c.log.evaluate), ("checkpoint", c.log.checkpoint)):
        rules[f"log.{name} = {steps} must be a multiple of log.every = {c.log.every}"] = steps % c.log.every
    return rules
