"""Analysis results as tables, figures, and HTML reports."""
