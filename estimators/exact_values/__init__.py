"""Exact divergences between known distributions: closed forms, quadrature, Monte Carlo, and the exact best fit of a
family; sums over outcomes (`discrete`, `attention`, `markov_chains`, `barycentres`); and means over samples whose
log-densities are known (`log_densities`). A closed form between Gaussians is one entry of `gaussian.CLOSED_FORMS`.
Imports distributions and divergences."""
