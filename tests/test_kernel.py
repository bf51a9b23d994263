"""The kernel of every training: one scan is many, step by step; replicas average over the global batch."""

import jax
import jax.numpy as jnp
import numpy as np

from estimators.critics.kernel import ALONE, Replicas, steps

KEY = jax.random.key(7)


def draw(key):
    return jax.random.normal(key, (16,))


def step(key, state, batch):
    noise = jax.random.normal(key, state.shape)
    state = state - 0.1 * (state - batch.mean()) + 0.01 * noise
    return state, {"state": state, "first": batch[0]}


def run(state, start, n, key=KEY):
    return jax.jit(steps, static_argnums=(0, 1, 5))(step, draw, key, state, start, n)


def test_200_steps_are_four_times_50_bit_for_bit():
    start = jnp.arange(3.0)
    whole, whole_metrics = run(start, 0, 200)
    state, metrics = start, []
    for chunk in range(4):
        state, some = run(state, 50 * chunk, 50)
        metrics.append(some)
    np.testing.assert_array_equal(whole, state)
    for name, values in whole_metrics.items():
        assert values.shape[0] == 200
        np.testing.assert_array_equal(values, np.concatenate([some[name] for some in metrics]))
    assert not np.array_equal(whole, run(start, 50, 200)[0])  # the step's number makes its numbers
    assert not np.array_equal(whole, run(start, 0, 200, jax.random.key(8))[0])


def test_steps_are_the_loop_they_stand_for():
    """Step i splits fold_in(key, i) into the batch's key and the step's own."""
    state = jnp.zeros(3)
    for i in range(5, 9):
        batch_key, step_key = jax.random.split(jax.random.fold_in(KEY, i))
        state, _ = step(step_key, state, draw(batch_key))
    scanned, metrics = run(jnp.zeros(3), 5, 4)
    np.testing.assert_allclose(scanned, state, rtol=1e-6)
    assert len(np.unique(metrics["first"])) == 4  # a fresh batch every step


def test_steps_over_seeds():
    keys = jax.random.split(KEY, 3)
    seeds = jax.vmap(lambda key: steps(step, draw, key, jnp.zeros(2), 0, 20)[0])(keys)
    for key, state in zip(keys, seeds):
        np.testing.assert_allclose(state, run(jnp.zeros(2), 0, 20, key)[0], rtol=1e-5, atol=1e-6)


def test_a_single_device_is_no_spread():
    values = jnp.arange(6.0)
    assert ALONE.expectation(values) == 2.5
    assert ALONE.shard(values) is values and ALONE.mean(values) is values


def test_replicas_average_over_the_global_batch():
    values = jnp.arange(12.0).reshape(4, 3)
    replicas = Replicas(
        mean=lambda tree: jax.lax.pmean(tree, "device"),
        shard=lambda rows: jax.lax.dynamic_slice_in_dim(rows, 3 * jax.lax.axis_index("device"), 3),
    )
    shards = jax.vmap(lambda _: replicas.shard(values.ravel()), axis_name="device")(jnp.arange(4))
    np.testing.assert_array_equal(shards, values)
    found = jax.vmap(lambda _: replicas.expectation(replicas.shard(values.ravel())), axis_name="device")(jnp.arange(4))
    np.testing.assert_allclose(found, values.mean())
