"""Density ratios: folds, parametric references, copulas, whitening, and from log-ratios to divergences with intervals.

Imports samples, divergences and the contract. Another reference is one more log-ratio in
`references.References.fit`; another way from log-ratios to a divergence is one more file.
"""
