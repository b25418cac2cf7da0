"""Sphinx configuration: MyST Markdown, the Furo theme, API pages from docstrings."""

from importlib.metadata import version as installed

project = "dartcli"
author = "The dartcli authors"
release = version = installed("dartcli")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
napoleon_google_docstring = False
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"dartcli {release}"
suppress_warnings = [
    "ref.python",  # many components have Options of their own: their names are not unique
    "myst.xref_missing",  # the README is outside of the documentation, and linked to on purpose
]
