"""Benchmarks: what the estimators' figures are worth, beside those of other packages."""
