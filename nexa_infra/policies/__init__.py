"""Judges of a plan."""
