"""Benchmarks of this package: ``python -m benchmarks NAME``."""
