"""Where the command `sluice` begins, and `python -m sluice` too."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line."""
    _open_standard_streams()
    from sluice.gateway.cli import main as command

    command()


def _open_standard_streams() -> None:
    """Have something open as standard input, output and error.

    Where a supervisor closes them, sockets would be opened under their numbers, and what is printed would go there.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, and those below this one are taken by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - as long as the process


if __name__ == "__main__":
    main()
