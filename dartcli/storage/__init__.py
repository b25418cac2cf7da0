"""Files on disk: paths, atomic writes, checksums, locks, tables."""
