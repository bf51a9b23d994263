"""Where real samples come from: `Dataset` is what a run draws from, `DATASETS` in `sources` lists every data set by its
name in a config. The room may import `estimators`, `fgan.config` and `fgan.devices`. A new data set is a function of
`config.Data` in a file of its own, and one line of `DATASETS`.
"""
