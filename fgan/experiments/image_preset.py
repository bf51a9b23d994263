"""One preset of images for all divergences, that of the experiments on images and of configs/digits.toml."""

from fgan.config.schema import Config, Critic, Data, Game, Generator, Log, Optimizer, Penalty

FIRST_SEED = 101  # none from here on served to choose a setting


def preset(name: str, *, data: Data, steps: int = 8000, seed: int = FIRST_SEED, seeds: int = 1) -> Config:
    """The training run of `data` under the divergence `name`: the same for all but for that name.

    configs/digits.toml is this for the digits under js, as its comments say; a test holds the two together.
    """
    optimizer = Optimizer(learning_rate=5e-4, b1=0.5, b2=0.99, schedule="cosine", final=0.05)
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
        generator_optimizer=optimizer,
        critic_optimizer=optimizer,
        log=Log(every=100, evaluate=1000, checkpoint=1000, samples=1000),
    )
