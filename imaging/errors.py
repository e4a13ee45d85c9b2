"""The errors that face-changer shows to people."""

import copy
from typing import Any, Final, Self

_MOST_CHARACTERS: Final = 580  # of what a rejection says: it is read on a screen, and a request may hold megabytes


def shortened(text: str, most: int) -> str:
    """The text, with its middle left out where it is longer than `most` characters (at least 20)."""
    if len(text) <= most:
        return text
    start = most * 2 // 3
    return f"{text[:start]} ... {text[len(text) - (most - start - 5) :]}"


class FaceChangerError(Exception):
    """An error with a hint: what is wrong (with which job, file or field), and how to put it right.

    Attributes:
        what: one sentence that says what is wrong.
        hint: one sentence that says what to do about it.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint
        super().__init__(f"{what} {hint}".strip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by `what` and `hint`, so that an error survives a process boundary."""
        return (type(self), (self.what, self.hint))

    def prefixed(self, words: str) -> Self:
        """The same error, raised nowhere yet, with words put before what is wrong, such as `Job a: `."""
        same = copy.copy(self)
        same.what = f"{words}{self.what}"
        same.args = (f"{same.what} {same.hint}".strip(),)
        return same


class InvalidImageError(FaceChangerError):
    """An image that cannot be used: missing, not an image, truncated, too large, or of a refused kind."""


class SettingsError(FaceChangerError):
    """A setting is missing or wrong; the message names the environment variable."""


class BackendError(FaceChangerError):
    """A generator, writer, detector or store failed, and trying again would not help."""


class TransientError(BackendError):
    """A back end failed in a way that may pass: a 429 or 529, a lost connection, a time limit.

    Attributes:
        retry_after: seconds that the server asks to wait before the next try; None when it does not say.
    """

    def __init__(self, what: str, hint: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(what, hint)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with `retry_after` too."""
        return (type(self), (self.what, self.hint), {"retry_after": self.retry_after})


class OutOfMemoryError(BackendError):
    """The device's memory is too short for one image alone, when everything that saves memory has been tried."""


class NeedsReviewError(FaceChangerError):
    """The job must wait for a person: no face found, a refusal by the model, a check not passed."""


class RejectedError(FaceChangerError):
    """The request itself is wrong or unsafe and is never run. Long values in its words are shortened."""

    def __init__(self, what: str, hint: str = "") -> None:
        hint = shortened(hint, _MOST_CHARACTERS // 2)
        super().__init__(shortened(what, _MOST_CHARACTERS - len(hint)), hint)
