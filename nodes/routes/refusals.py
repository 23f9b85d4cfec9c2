"""Refused requests: an HTTP status and one sentence."""

from __future__ import annotations

from ...dspo_train.exceptions import ConfigError, DatasetError, DspoError

_ERRORS: tuple[tuple[type[DspoError], int, str], ...] = (
    (ConfigError, 400, "A name in the request is not valid."),
    (DatasetError, 404, "There is no such set, pair or image, or it cannot be read; see ComfyUI's log."),
    (DspoError, 500, "This failed; see ComfyUI's log."),
)


class RefusedError(Exception):
    """A request to answer with this HTTP status and one sentence, which repeats no part of the request."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


def refusal_of(error: DspoError) -> RefusedError:
    """The answer for an error whose own text, which may hold paths, belongs in the log.

    The page gives up on a status below 500 and retries after any other.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        return RefusedError(503, "The files of this set are locked or cannot be reached; see ComfyUI's log.")
    return next(RefusedError(status, text) for kind, status, text in _ERRORS if isinstance(error, kind))
