"""Signals: one file each, which defines ``SIGNAL``; see :mod:`dartcli.catalog`."""
