"""Exact divergences between known distributions: closed forms, sums, quadrature, Monte Carlo, and the exact best fit of
a family; sums over outcomes (`discrete`, `attention`, `markov_chains`, `barycentres`); and means over samples whose
log-densities are known (`log_densities`). A divergence that KL and ∫ p^α q^{1−α} determine is one entry of
`moments.OF_MOMENTS`, for every family at once; `between.exact` chooses the way. Imports distributions and divergences.
"""
