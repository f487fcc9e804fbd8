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
    """Open the null device for each standard stream that is closed.

    Otherwise sockets and files would get their descriptors, and with them what libraries and workers print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free descriptor, which is this one: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
            # As long as the process: it is never closed.
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


if __name__ == "__main__":
    main()
