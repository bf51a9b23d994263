"""Ways of estimating divergences from samples, one file each, named as the method.

A file lists in its literal dictionary `METHODS` what it offers, {name: one line about it}, and has one function
`estimate(request: Request) -> Fit`. It may import every room but the front doors above it and `tasks`. To add a method,
add a file: `METHODS` of `estimators.contract` finds it.
"""
