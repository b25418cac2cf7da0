"""Find and handle false-positive interactions while training recommenders."""

from __future__ import annotations

__version__ = "0.1.0"
