"""What is minimised where a divergence does a job: objectives as pure functions of arrays, and their schedules. An
objective is a file of its own with its laws as tests. Imports exact_values, distributions and divergences."""
