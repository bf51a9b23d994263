"""The geometry of divergences, all exact: inequalities between them and their joint range, what channels do to them,
which of their powers are metrics, geodesics between distributions, projections onto families, Rényi's divergence over
its orders, and Wasserstein's distance beside them. A new inequality is one entry of `inequalities.INEQUALITIES`, a
metric one of `metric.METRICS`. Imports distributions, divergences, exact_values and plot_style; nothing is trained."""
