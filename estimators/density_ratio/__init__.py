"""Density ratios: folds, parametric references, copulas, whitening, from log-ratios to divergences
with intervals, and the information of counts.

Imports samples, divergences and the contract. Another reference is one more log-ratio in
`references.References.fit`; another way from log-ratios to a divergence is one more file.
"""
