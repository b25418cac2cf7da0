"""Files and directories: paths, atomic writes, checksums, locks."""
