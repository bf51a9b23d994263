"""Samples: arrays and their checks, files and their formats, and the folds that cross-fitting cuts the rows into.

Imports no other room. Another file format is one entry of `files.FORMATS`, with its reader.
"""
