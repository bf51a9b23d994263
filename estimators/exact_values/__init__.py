"""Exact divergences between known distributions: closed forms, quadrature, Monte Carlo, and the exact best fit of a
family. A closed form between Gaussians is one entry of `gaussian.CLOSED_FORMS`. Imports distributions and
divergences."""
