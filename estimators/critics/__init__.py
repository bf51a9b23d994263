"""Critics: networks from points to real numbers, the kernel that trains them and every other model, and training with
early stopping for several folds of rows at once, in few sizes.

Imports divergences and what is below. Another architecture or layer is one more file.
"""
