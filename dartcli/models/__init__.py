"""Recommenders: one file each, found by its name.

A file holds the constant ``MODEL``: an ``nn.Module`` that is constructed from the number of values
of each field (user and item first) and the model's ``Options``, and maps Long[N, F] field values to
Float[N] logits of an interaction. An empty batch gives no logits.
"""
