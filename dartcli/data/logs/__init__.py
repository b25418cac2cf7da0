"""A user's own interaction log: its columns, files, preview and registration."""
