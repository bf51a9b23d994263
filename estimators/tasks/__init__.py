"""Benchmark tasks: what is sampled, its exact log-ratio, and the truth with which estimates are compared. A task is one
line of `divergence_tasks` or of a file that `information_tasks` lists, whose maps change samples but no truth, one
function of `kind_tasks`, for rows that are not independent real numbers, or one seed of `random_pairs`. Imports
exact_values, distributions, divergences, and the errors of samples."""
