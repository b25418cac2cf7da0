"""Developer tasks, each in a virtual environment of its own: ``nox``, or ``nox -s lint``.

``nox -R --no-venv`` runs them in the active environment and installs nothing. Arguments after
``--`` go to pytest: ``nox -s test -- tests/denoising -k ranking``.
"""

import nox

nox.needs_version = ">=2026.10"
nox.options.reuse_venv = "yes"


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, types, and which package imports which."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def test(session: nox.Session) -> None:
    """Run the tests."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "-b", "html", "docs", "build/docs")
