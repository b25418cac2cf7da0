"""Sphinx configuration: MyST Markdown, the Furo theme, API pages from docstrings."""

import shutil
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "dartcli"
author = "The dartcli authors"
release = version = installed("dartcli")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
exclude_patterns = ["_build"]
html_extra_path = ["llms.txt"]
html_theme = "furo"
html_title = f"dartcli {release}"
suppress_warnings = [
    "misc.highlighting_failure",  # Pygments has no lexer for CSV
    "ref.python",  # many components have Options of their own: their names are not unique
    "myst.xref_missing",  # the README is outside of the documentation, and linked to on purpose
]


def copy_markdown(app: Sphinx, error: Exception | None) -> None:
    """Put the Markdown of each page beside its HTML: llms.txt links to the Markdown."""
    if error is None and app.builder.format == "html":
        for page in app.env.found_docs:
            shutil.copyfile(app.srcdir / f"{page}.md", app.outdir / f"{page}.md")


def setup(app: Sphinx) -> None:
    app.connect("build-finished", copy_markdown)
