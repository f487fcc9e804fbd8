"""Where the command `sluice` begins, and `python -m sluice` too.

The packages behind it have names that others may have as well, and a foreign `cache` on the operator's `PYTHONPATH` or
in the working folder is not ours. So ours are imported from where they lie beside this file; what they import in turn
is found as ever.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

OWN = ("gateway", "batching", "cache", "inference")


def main() -> None:
    """Run the command line."""
    _open_standard_streams()
    _import_own_packages()
    from gateway.cli import main as command

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


def _import_own_packages() -> None:
    """Once a package is imported, its modules are looked for in its own folder and nowhere else."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    try:
        for name in OWN:
            import_module(name)
    finally:
        del sys.path[0]


if __name__ == "__main__":
    main()
