"""Density ratios: coordinates, parametric references, calibration, and from log-ratios to divergences with intervals.

Imports samples, critics, distributions, divergences and exact values. Another reference is one more log-ratio in
`references.References.fit`; another way from log-ratios to a divergence is one more file.
"""
