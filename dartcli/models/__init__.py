"""Recommenders: one file each, found by file name.

A model is an ``nn.Module`` made from the sizes of the fields and its ``Options``, that maps
Long[N, F] field values to Float[N] logits of an interaction.
"""
