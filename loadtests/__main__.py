"""`python -m loadtests …` is `locust -f loadtests/locustfile.py …`, and its `--help` knows our options too.

Locust answers `--help` before it looks into a locustfile.
"""

from __future__ import annotations

import sys
from pathlib import Path

from locust import events
from locust.main import main

from loadtests.options import add_options

if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        events.init_command_line_parser.add_listener(add_options)
    sys.argv[1:1] = ["-f", str(Path(__file__).with_name("locustfile.py"))]
    main()
