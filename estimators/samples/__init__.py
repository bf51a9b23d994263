"""Samples: arrays and their checks, what their columns hold, rows in time, files and their formats.

Imports no other room. Another file format is one entry of `files.FORMATS`, with its reader.
"""
