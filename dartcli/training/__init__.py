"""Fitting one model: device, loop, trace, evaluation, and the experiment around them."""
