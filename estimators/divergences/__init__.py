"""f-divergences as data: all that follows from a generator, the families, the table, their perspective, and bounds. A
divergence is one entry of `table.DIVERGENCES`, a family with a parameter one of `families.FAMILIES`, a variational
bound one of `bounds.BOUNDS`. Imports nothing of the project."""
