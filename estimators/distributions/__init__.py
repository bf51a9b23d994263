"""Distributions that can be sampled and whose density is exact: elliptical, products, mixtures, noisy curves. A
new kind is one class with the methods of `elliptical.Distribution`; a known target that a config may name is one
entry of `examples.TARGETS`. Imports nothing of the project."""
