"""Measurements of speed: one file each, found by file name.

Contenders are timed in turn, round after round, in one process: what counts are the ratios, which
hold on a machine whose speed drifts.
"""
