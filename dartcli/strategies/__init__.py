"""Strategies against false positives: one file each, found by file name."""
