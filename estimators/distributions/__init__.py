"""Distributions that can be sampled and whose density is exact: elliptical, products, mixtures, noisy curves, pairs. A
new kind is one file with the methods of `distribution.Distribution`; a known target that a config may name is one entry
of `examples.TARGETS`. Imports nothing of the project."""
