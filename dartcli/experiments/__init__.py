"""Runs and sweeps: configure, train, evaluate, write, find, compare."""
