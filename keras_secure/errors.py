"""Errors and warnings shared by all rooms.

Every message says what happened, what was expected and what to do about it.
"""


class SecurityError(Exception):
    """Base class of every error that this library raises on purpose."""


class PrivacyError(SecurityError, ValueError):
    """A privacy guarantee could not be kept, so the operation was refused."""


class BudgetExhaustedError(PrivacyError):
    """The privacy budget leaves no room for the operation."""


class IntegrityError(SecurityError):
    """Files are not what their manifest or signature says they are."""


class InputError(SecurityError, ValueError):
    """Data, a file or an option given by the user cannot be used."""


class FallbackWarning(UserWarning):
    """A layer has no fast rule, so a slower and equally exact path is used."""


class PrivacyWarning(UserWarning):
    """Something is reported that the privacy guarantee does not cover."""
