"""Exact divergences between known distributions: closed forms, quadrature, Monte Carlo, and the exact best fit of a
family. A divergence that KL and ∫ p^α q^{1−α} determine is one entry of `moments.OF_MOMENTS`, for every family at once;
`between.exact` chooses the way. Imports distributions and divergences."""
