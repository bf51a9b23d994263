"""Devices and processes: the only room that names them.

It imports `fgan.config` and what a step is given to share its batch (`estimators.critics.kernel`). A third way to
spread a chunk over devices is a branch of `engines.lower` and of `engines.replicas`; a chip is an entry of
`compile_check.CHIPS`.
"""
