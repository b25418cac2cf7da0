"""Denoising strategies: one file each, found by its name.

A file holds the constant ``STRATEGY``: a subclass of :class:`dartcli.denoising.Strategy`, or a
mapping from full names to such classes.
"""
