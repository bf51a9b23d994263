"""The settings that experiments on images share: those of configs/digits.toml, which a test holds equal to these.

One preset for all divergences. An experiment changes what its data asks for, and nothing by divergence.
"""

from fgan.config.schema import Config, Critic, Data, Game, Generator, Log, Optimizer, Penalty

OPTIMIZER = Optimizer(learning_rate=5e-4, b1=0.5, b2=0.99, schedule="cosine", final=0.05)
DIGITS = Data(name="digits")


def preset(name: str, *, data: Data = DIGITS, steps: int = 8000, seed: int = 0, seeds: int = 1) -> Config:
    """The run of configs/digits.toml under the divergence `name`, on the digits or on other images."""
    return Config(
        divergence=name,
        seed=seed,
        seeds=seeds,
        steps=steps,
        batch=64,
        data=data,
        generator=Generator(kind="image", features=(64, 32), latent=64, average=0.999),
        critic=Critic(kind="image", features=(32, 64), nonlinearity="leaky_relu", output_bound=4.0),
        game=Game(smoothing=(2.0, 2.0)),
        penalty=Penalty(names=("r1",), weight=0.5),
        generator_optimizer=OPTIMIZER,
        critic_optimizer=OPTIMIZER,
        log=Log(every=100, evaluate=1000, checkpoint=1000, samples=1000),
    )
