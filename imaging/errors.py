"""The errors that face-changer shows to people.

Belongs here: the base class and the errors that any room may raise. Does not: how an error changes a job's
status, which the assets decide.
"""


class FaceChangerError(Exception):
    """An error with a mend: what is wrong (with which job, file or field), and how to put it right.

    Attributes:
        what: one sentence that says what is wrong.
        mend: one sentence that says what to do about it.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        self.what = what
        self.mend = mend
        super().__init__(f"{what} {mend}".strip())

    def __reduce__(self) -> tuple[type["FaceChangerError"], tuple[str, str]]:
        """Pickle by `what` and `mend`, so that an error survives a process boundary."""
        return (type(self), (self.what, self.mend))


class InvalidImageError(FaceChangerError):
    """An image that cannot be used: missing, not an image, truncated, too large, or of a refused kind."""


class SettingsError(FaceChangerError):
    """A setting is missing or wrong; the message names the environment variable."""


class BackendError(FaceChangerError):
    """A generator, writer, detector or store failed, and trying again would not help."""


class TransientError(BackendError):
    """A back end failed in a way that may pass: a 429 or 529, a lost connection, a time limit."""


class NeedsReviewError(FaceChangerError):
    """The job must wait for a person: no face found, a refusal by the model, a check not passed."""


class RejectedError(FaceChangerError):
    """The request itself is wrong or unsafe and is never run."""
