"""Critics: networks from points to real numbers, and the kernel that trains them and every other model.

Imports divergences and what is below. Another architecture or layer is one more file.
"""
