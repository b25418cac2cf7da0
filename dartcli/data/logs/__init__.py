"""A user's own interaction log."""
