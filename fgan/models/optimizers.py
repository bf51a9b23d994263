"""optax optimisers and learning-rate schedules by name."""

from __future__ import annotations

from collections.abc import Callable

import optax

from fgan.config.schema import Optimizer

SCHEDULES: dict[str, Callable[..., optax.Schedule]] = {
    "constant": lambda rate, final, steps: optax.constant_schedule(rate),
    "cosine": lambda rate, final, steps: optax.cosine_decay_schedule(rate, steps, alpha=final),
    "exponential": lambda rate, final, steps: optax.exponential_decay(rate, steps, final, end_value=rate * final),
    "linear": lambda rate, final, steps: optax.linear_schedule(rate, rate * final, steps),
}
"""name → (first rate, share of it at the end, updates) → schedule."""

OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": lambda rate, o: optax.adam(rate, b1=o.b1, b2=o.b2),
    "optimistic_adam": lambda rate, o: optax.optimistic_adam_v2(rate, b1=o.b1, b2=o.b2),
    "adamw": lambda rate, o: optax.adamw(rate, b1=o.b1, b2=o.b2),
    "rmsprop": lambda rate, o: optax.rmsprop(rate, decay=o.b2),
    "sgd": lambda rate, o: optax.sgd(rate, momentum=o.b1 or None),
    "lion": lambda rate, o: optax.lion(rate, b1=o.b1, b2=o.b2),
}
"""name → (schedule, the config's group) → optimiser."""


def optimizer(o: Optimizer, steps: int) -> optax.GradientTransformation:
    """The optimiser that `o` describes, its schedule spread over `steps` updates."""
    rate = SCHEDULES[o.schedule](o.learning_rate, o.final, steps)
    made = OPTIMIZERS[o.name](rate, o)
    return optax.chain(optax.clip_by_global_norm(o.clip), made) if o.clip else made
