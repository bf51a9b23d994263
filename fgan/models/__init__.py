"""What can be trained: the protocol every model follows, the models, and the tables of what their config names.

This room imports estimators, fgan.config, fgan.data and fgan.networks. A model is a file that lists itself in MODELS
and offers `build`; an objective or a penalty is an entry of the table in the file of that name, an optimiser one of
OPTIMIZERS in `players`.
"""
