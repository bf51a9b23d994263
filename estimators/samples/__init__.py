"""Samples: arrays and their checks, columns of words and dates, columns that follow from others, rows in time, files.

Imports no other room. Another file format is one entry of `files.FORMATS`, with its reader.
"""
