"""Run a command in a terminal and read what it shows."""

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import termios
from collections.abc import Callable, Iterator, Mapping, Sequence

BUDGET = 60.0
"""Seconds after which a terminal that shows nothing has failed."""


@contextlib.contextmanager
def open_terminal(
    words: Sequence[str], environment: Mapping[str, str], columns: int = 80
) -> Iterator[int]:
    """Yield the descriptor of a terminal in which ``words`` run."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(words[0], words, {"TERM": "xterm", **environment})  # noqa: S606 - no shell
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    try:
        yield terminal
    finally:
        os.close(terminal)
        os.waitpid(child, 0)


def read_until(terminal: int, is_done: Callable[[str], bool]) -> str:
    """Return what a terminal shows until ``is_done``."""
    text = ""
    while not is_done(text):
        ready, _, _ = select.select([terminal], [], [], BUDGET)
        assert ready, text
        # without the bell that tells the typist of several candidates
        text += os.read(terminal, 4096).decode(errors="replace").replace("\a", "")
    return text


def read_rest(terminal: int) -> str:
    """Return what a terminal shows until its command ends."""
    text = b""
    while True:
        ready, _, _ = select.select([terminal], [], [], BUDGET)
        assert ready, text
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux reports the end of a terminal as an error
            part = b""
        if not part:
            return text.decode()
        text += part


def split_lines(text: str) -> list[str]:
    """Return the lines that a terminal has shown; a line that is redrawn counts anew."""
    plain = re.sub(r"\x1b\[[0-9;?]*[ABCDJK]", "\r", text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", plain)
    return [line.rstrip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
