"""Torture: faults in great number, each of which must be detected or harmless."""
