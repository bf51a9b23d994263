"""How good a generator is, from its samples: one file a kind of score, in float64 NumPy outside every training step.

Shares lie in [0, 1], divergences are nats, and each empirical divergence comes with its floor, the mean of what a
perfect sampler of that size scores. May import models, data and estimators. To add a score, write its file and one
entry of `SCORERS` in evaluation.py, which says what data it is for.
"""
