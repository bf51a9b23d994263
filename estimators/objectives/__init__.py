"""What a model minimises: divergences at work on densities, features and maps, each with its own gradient or optimum.

Imports exact_values, distributions and divergences. Another objective is one more file, named as the objective is.
"""
