"""The options that the load tests add to Locust's own. Each may also stand in the environment; `--help` says how."""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from loadtests.gate import Objective
from loadtests.models import MODELS
from loadtests.shapes import SHAPES, Load

MAX_DISTINCT_ROWS = 1_000_000
MAX_MODEL_WEIGHT = 100
BEARER = "Authorization"


class Parser(Protocol):
    """What is used of Locust's parser, which cannot be imported without Locust's patching of the whole process."""

    def add_argument(self, *names: str, env_var: str, is_secret: bool = False, **settings: Any) -> Any:
        """As argparse has it. `is_secret` hides the value in the web form."""


def weights(text: str) -> dict[str, int]:
    """`digits=3,linear=1` as a mapping; a model that is not named gets none. Raises `ArgumentTypeError`."""
    given: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        if name not in MODELS or not number.isdecimal() or int(number) > MAX_MODEL_WEIGHT:
            raise ArgumentTypeError(
                f"{part!r}: expected MODEL=WEIGHT, with a model of {', '.join(MODELS)} and a weight up to "
                f"{MAX_MODEL_WEIGHT}, as in digits=3,linear=1"
            )
        given[name] = int(number)
    if not any(given.values()):
        raise ArgumentTypeError(f"{text!r} leaves no model: expected a weight above 0 for one at least")
    return given


def _within(kind: type[int] | type[float], lowest: float, highest: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = kind(-1)
        if not lowest <= value <= highest:
            raise ArgumentTypeError(f"{text!r}: expected {kind.__name__} from {lowest:g} to {highest:g}")
        return value

    return number


@dataclass(frozen=True, slots=True)
class Option:
    """One option. `read` makes its value of the text of the command line, the environment or the web form."""

    name: str
    read: Callable[[str], Any]
    default: Any
    words: str
    secret: bool = False

    @property
    def place(self) -> str:
        """Its attribute in the namespace that argparse makes."""
        return self.name.replace("-", "_")


SHAPE_WORDS = "; ".join(f"{name}: {shape.words}" for name, shape in SHAPES.items())
DEFAULTS = "; ".join(f"{name} {shape.peak_users}" for name, shape in SHAPES.items())
DURATIONS = "; ".join(f"{name} {shape.duration_s:g}" for name, shape in SHAPES.items())

OPTIONS: tuple[Option, ...] = (
    Option("peak-users", _within(int, 1, 10_000), None, f"Users at the peak of the shape. Not given: {DEFAULTS}."),
    Option("duration-s", _within(float, 1, 7 * 24 * 3600), None, f"Seconds until the end. Not given: {DURATIONS}."),
    Option("steps", _within(int, 1, 1000), 10, "Steps of the step ramp."),
    Option("burst-s", _within(float, 1, 3600), 5.0, "Seconds that a burst lasts, and the pause after it."),
    Option(
        "rate-per-user",
        _within(float, 0, 10_000),
        10.0,
        "Calls per second that each user aims at; 0: the next one follows each answer at once.",
    ),
    Option("weights", weights, "digits=1,linear=1", "How often each model is asked, beside the others."),
    Option("zipf-exponent", _within(float, 0, 10), 0.9, "How unequal rows are: 0 not at all, 1 as web pages are."),
    Option("distinct-rows", _within(int, 1, MAX_DISTINCT_ROWS), 10_000, "Different rows of each model, at most."),
    Option("seed", _within(int, 0, 2**32), 0, "Which rows chance picks. (Which call comes next is up to Locust.)"),
    Option("objective-ms", _within(float, 0, 1e6), None, "Gate: latency promised. Not given: none is looked at."),
    Option("objective-percentile", _within(float, 1, 100), 99.0, "Gate: percent of predictions that must keep it."),
    Option("max-failure-ratio", _within(float, 0, 1), 0.0, "Gate: share of calls that may fail."),
    Option("max-refused-ratio", _within(float, 0, 1), 0.0, "Gate: share that may be refused with Retry-After."),
    Option("ca", str, None, "Certificate authority (PEM) to trust instead of the system's."),
    Option("api-key", str, None, "Sent with each call. In the environment, ps does not show it.", True),
    Option("api-key-header", str, BEARER, f"Header that carries the key: {BEARER} (as Bearer), or another (as it is)."),
)


def add_options(parser: Parser) -> None:
    """Give Locust's parser ours. The environment variable of `--zipf-exponent` is `LOADTEST_ZIPF_EXPONENT`."""
    parser.add_argument(
        "--shape",
        choices=list(SHAPES),
        default="steady",
        env_var=_variable("shape"),
        help=_help(f"{SHAPE_WORDS}.", "shape", "steady"),
    )
    for option in OPTIONS:
        parser.add_argument(
            f"--{option.name}",
            type=option.read,
            default=option.default,
            env_var=_variable(option.name),
            is_secret=option.secret,
            metavar=option.name.rpartition("-")[2].upper(),
            help=_help(option.words, option.name, option.default),
        )
    for name, words in (
        ("no-store", "Keep the cache out of every call (Cache-Control: no-store)."),
        ("insecure", "Do not look at the server's certificate."),
    ):
        parser.add_argument(f"--{name}", action="store_true", env_var=_variable(name), help=_help(words, name))


def _help(words: str, name: str, default: object = None) -> str:
    """Locust's parser says neither defaults nor variables by itself."""
    known = "" if default is None else f" Default: {default}."
    return f"{words}{known} [{_variable(name)}]".replace("%", "%%")


def _variable(name: str) -> str:
    return f"LOADTEST_{name.replace('-', '_').upper()}"


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one run, checked."""

    load: Load
    objective: Objective
    rate_per_user: float
    weights: Mapping[str, int]
    zipf_exponent: float
    distinct_rows: int
    seed: int
    no_store: bool
    insecure: bool
    ca: str | None
    headers: Mapping[str, str]

    @classmethod
    def of(cls, given: Namespace) -> Options:
        """From what Locust has parsed. The web form hands text over unread, and an empty one for what is not given."""
        values = {option.place: _value(option, getattr(given, option.place)) for option in OPTIONS}
        defaults = SHAPES[given.shape]
        load = Load(
            shape=given.shape,
            peak_users=values["peak_users"] or defaults.peak_users,
            duration_s=values["duration_s"] or defaults.duration_s,
            steps=values["steps"],
            burst_s=values["burst_s"],
        )
        objective = Objective(
            latency_ms=values["objective_ms"],
            percentile=values["objective_percentile"],
            max_failure_ratio=values["max_failure_ratio"],
            max_refused_ratio=values["max_refused_ratio"],
        )
        return cls(
            load=load,
            objective=objective,
            rate_per_user=values["rate_per_user"],
            weights=values["weights"],
            zipf_exponent=values["zipf_exponent"],
            distinct_rows=values["distinct_rows"],
            seed=values["seed"],
            no_store=given.no_store,
            insecure=given.insecure,
            ca=values["ca"],
            headers=_key_header(values["api_key_header"], values["api_key"]),
        )


def _value(option: Option, given: Any) -> Any:
    if given is None or given == "":
        return None
    return option.read(given) if isinstance(given, str) else given


def _key_header(header: str | None, key: str | None) -> dict[str, str]:
    if not key:
        return {}
    header = header or BEARER
    return {header: f"Bearer {key}" if header == BEARER else key}
