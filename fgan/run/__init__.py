"""Training as something that lasts: the loop, checkpoints, run directories, sweeps, and trained runs read back.

A config becomes a run by `check` (config), `build` (models) and `loop.train`. The room may import every room below it,
but of a model it asks only what `fgan.models.model.Model` names. A field that members of a sweep may differ in within
one program is an entry of `program.FIELDS`.
"""
