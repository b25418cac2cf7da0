"""Analyses of finished runs: one file each, found by file name."""
