"""The kernels of the bandwidth benchmark give the right numbers, and its report is written."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from benchmarks import bandwidth


@pytest.mark.parametrize("kernel", [bandwidth.rowwise_kl, bandwidth.in_blocks(bandwidth.rowwise_kl, 4)])
def test_row_wise_kl_is_that_of_scipy(kernel):
    p, q = 20.0 * np.random.default_rng(0).normal(size=(2, 12, 9)).astype(np.float32)
    expected = special.rel_entr(*(special.softmax(x.astype(np.float64), axis=1) for x in (p, q))).sum(axis=1)
    np.testing.assert_allclose(jax.jit(kernel)(jnp.asarray(p), jnp.asarray(q)), expected, rtol=2e-5, atol=1e-5)


def test_a_small_run_writes_its_report(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bandwidth, "COLD", 2**12)
    small = {"row-wise KL": (2, (8, 16), {"jit": bandwidth.rowwise_kl})}
    monkeypatch.setattr(bandwidth, "KERNELS", small)
    monkeypatch.setattr(bandwidth, "torch_forms", dict)
    assert bandwidth.main(bandwidth.Settings(seconds=0.01, results=tmp_path)) == 0
    stored = json.loads((tmp_path / "bandwidth.json").read_text())
    found = stored["kernels"]["row-wise KL"]["jit"]
    assert found["rate"] == pytest.approx(4 * (2 * 8 * 16 + 8) / found["seconds"])
    assert "PyTorch is not installed here." in capsys.readouterr().out
