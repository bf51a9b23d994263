"""Samples: arrays and their checks, files and their formats.

Imports no other room. Another file format is one entry of `files.FORMATS`, with its reader.
"""
