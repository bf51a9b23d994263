"""Published experiments, run again with exact values beside them: one file or folder an experiment.

Each holds its training runs, its table and its picture. What they share stands once: runs.py trains many runs side by
side, tables.py has means with standard errors, plots.py what several pictures draw, image_preset.py how images are
trained. May import everything of fgan but cli. To add an experiment, write its file: a literal `EXPERIMENTS` of {name:
one line about it}, and `reproduce(name, directory, *, quiet)`, which runs it, prints its table and returns the files it
made, pictures first. One on images may take `data`, where others lie, too.
"""
