"""Objectives that put a divergence to work: distillation, policies, information bounds. Pure functions of arrays, in
nats. A new objective is one function with its exact test, or a file of its own if it is of a new kind. Imports
exact_values, distributions and divergences."""
