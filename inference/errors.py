"""All errors of Sluice, as one tree. None of them knows HTTP; each dialect has a table of the statuses for them.

SluiceError
 ├─ RequestError                the caller can correct it
 │   ├─ InvalidRequest          malformed, or not what the model takes
 │   │   └─ NoSuchRegion        it asks for shared memory, of which there is none
 │   ├─ RequestTooLarge         beyond a limit of the gateway or of the queue
 │   ├─ ModelNotFound           no such model
 │   │   └─ VersionNotFound     the model has no such version
 │   └─ Forbidden               the operator does not let callers do this
 ├─ Unavailable                 the same call may succeed later
 │   ├─ QueueFull               refused at once; carries `retry_after_s`
 │   ├─ Overloaded              would not be answered by its deadline; carries `retry_after_s`
 │   └─ ModelNotReady           loading, stopping, or without a living worker
 ├─ DeadlineExceeded            the request's time is over
 ├─ ExecutionError              the model ran and gave no answer
 │   ├─ ModelFailed             it raised an error
 │   ├─ WorkerDied              its process ended before the answer; the batch may be run again
 │   └─ WorkerKilled            worker processes died so often while they ran it alone that it is not run again
 └─ StartError                  reported to the operator, not to a caller
     ├─ RepositoryError         the model repository or a model.toml is wrong
     └─ ModelLoadError          a worker could not load the model
"""

from __future__ import annotations

from sluice.inference.types import Death


class SluiceError(Exception):
    """The root of the tree. `str(error)` says what is wrong, where, and what would be right."""


class RequestError(SluiceError):
    """The caller can correct the request."""


class InvalidRequest(RequestError):
    """The request is malformed, or not what the model takes."""


class NoSuchRegion(InvalidRequest):
    """The request asks for a region of shared memory. There are none."""


class RequestTooLarge(RequestError):
    """The request is beyond a limit, which the message names."""


class ModelNotFound(RequestError):
    """There is no such model, or no such version of it."""


class VersionNotFound(ModelNotFound):
    """There is such a model, but no such version of it."""


class Forbidden(RequestError):
    """The operator does not let callers do this; the message names the setting that would."""


class Unavailable(SluiceError):
    """The same call may succeed later, in about `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Unavailable):
    """The model's queue is full: it holds the most rows or bytes that it may."""


class Overloaded(Unavailable):
    """So many requests wait already that this one would not be answered by its deadline."""


class ModelNotReady(Unavailable):
    """The model is loading, stopping, or has no living worker."""


class DeadlineExceeded(SluiceError):
    """The request's time was over before there was an answer."""


class ExecutionError(SluiceError):
    """The model ran and gave no answer."""


class ModelFailed(ExecutionError):
    """The engine raised an error. `invalid_input` is true if it blamed the values or shapes of the inputs."""

    def __init__(self, message: str, *, invalid_input: bool = False) -> None:
        super().__init__(message)
        self.invalid_input = invalid_input


class WorkerDied(ExecutionError):
    """The worker process ended before it answered.

    `running` is true for the batch that the worker was running, false for one that it had not begun. `death` says how
    the process ended; `None` if that is not known.
    """

    def __init__(self, message: str, *, running: bool, death: Death | None = None) -> None:
        super().__init__(message)
        self.running = running
        self.death = death


class WorkerKilled(ExecutionError):
    """Worker processes died so often while they ran this request alone that it is not run again."""


class StartError(SluiceError):
    """Reported to the operator who starts or changes the service, not to a caller."""


class RepositoryError(StartError):
    """The model repository or a `model.toml` is wrong; the message names the file and the key."""


class ModelLoadError(StartError):
    """A worker could not load or warm up the model."""
