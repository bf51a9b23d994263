# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Mode covering and mode seeking
#
# One Gaussian cannot fit two modes. Which compromise it makes is decided by the divergence it minimises. Here that is
# seen twice: exactly, by quadrature, and learned, by an f-GAN that only ever sees samples.

# %%
import matplotlib.pyplot as plt
import numpy as np

import estimators as est
from estimators.distributions.examples import FGAN_MIXTURE, TWO_MODES
from estimators.exact_values.fits import best_gaussian
from fgan.experiments.modes.measurement import measure
from fgan.experiments.modes.training import SEEDS, START, fit
from fgan.experiments.tables import NAMES

x = np.linspace(-5, 7, 500)

# %% [markdown]
# **The target** is the mixture of the f-GAN paper's table: a narrow mode and a broad one.


# %%
def draw(axis, fits, target=FGAN_MIXTURE):
    axis.fill_between(x, np.exp(target.log_prob(x)), color="0.8", label="target")
    for label, mu, sigma in fits:
        axis.plot(x, np.exp(est.normal(mu, sigma).log_prob(x)), label=label)
    axis.legend(frameon=False)


draw(plt.subplots()[1], [("moments", *FGAN_MIXTURE.moments())])

# %% [markdown]
# **The exact compromises.** D(data‖model) is minimised over (μ, σ) by quadrature in float64. Sorted by σ, the
# divergences run from covering both modes to seeking one.

# %%
best = {name: best_gaussian(FGAN_MIXTURE, name) for name in NAMES}
for name, closest in sorted(best.items(), key=lambda item: -item[1]["sigma"]):
    print(f"{name:18s} μ = {closest['mu']:.3f}   σ = {closest['sigma']:.3f}   D = {closest['value']:.4f}")

# %%
draw(plt.subplots()[1], [(name, best[name]["mu"], best[name]["sigma"]) for name in ("pearson", "kl", "reverse_kl")])

# %% [markdown]
# **Learned.** An f-GAN under reverse KL: a generator μ + σz against a critic, three seeds at once.

# %%
reverse_kl = est.divergence("reverse_kl")
(learned,) = fit(FGAN_MIXTURE, reverse_kl, [START])
measured = measure(FGAN_MIXTURE, reverse_kl, learned, SEEDS, best["reverse_kl"])
print(f"learned μ = {measured['mu']:.3f}, σ = {measured['sigma']:.3f}; excess {measured['excess']:.1e} nats")

# %% [markdown]
# The critic's bound is a lower bound on the divergence at the fit, and close to it.

# %%
print(f"bound {measured['bound']:.4f} ≤ exact {measured['exact']:.4f}")
assert measured["bound"] <= measured["exact"]
assert measured["excess"] < 5e-3

# %% [markdown]
# **Two equal modes** leave reverse KL a choice, and the start decides it; forward KL spreads over both.

# %%
starts = {mu: best_gaussian(TWO_MODES, "reverse_kl", start=(mu, 1.0)) for mu in (-1.5, 1.5)}
both = best_gaussian(TWO_MODES, "kl")
fits = [(f"reverse KL from {mu:+g}", closest["mu"], closest["sigma"]) for mu, closest in starts.items()]
draw(plt.subplots()[1], [*fits, ("KL", both["mu"], both["sigma"])], TWO_MODES)
