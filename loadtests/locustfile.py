"""What Locust loads: `locust -f loadtests/locustfile.py --host http://127.0.0.1:8000 --headless`. See README.md."""

from __future__ import annotations

from locust import events

from loadtests.dialects import dialects
from loadtests.http_user import user_classes
from loadtests.options import add_options
from loadtests.watch import Schedule, Watch

WATCH = Watch()
WATCH.listen(events)
events.init_command_line_parser.add_listener(add_options)


class Shape(Schedule):
    """The one that Locust finds."""

    abstract = False
    watch = WATCH


# Locust takes its users from the names of this module.
globals().update(user_classes(dialects()))
