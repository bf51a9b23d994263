"""Benchmark tasks: what is sampled, and the exact truth with which estimates are compared. A task is one line of
`divergence_tasks` or of `mutual_information_tasks`, whose maps change samples but no truth, or one function of
`kind_tasks`, for rows that are not independent real numbers. Imports exact_values, distributions, divergences, and the
errors of samples."""
