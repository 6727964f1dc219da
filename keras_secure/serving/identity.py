"""Who asks, and what they may ask for."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from keras_secure.errors import InputError

VERBS = ("predict", "classify", "regress", "metadata", "status", "metrics", "admin")

_MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# What changes the server, or tells about everybody, is granted by its own name only.
_NEVER_MEANT_BY_ALL = frozenset({"metrics", "admin"})


@dataclass(frozen=True)
class Identity:
    """Somebody whose credentials held.

    Args:
        id: Name that limits, budgets and the audit log know them by.
        kind: `"api_key"`, `"jwt"` or `"anonymous"`.
        scopes: What they may do, each `"MODEL:VERB"` with a verb of `VERBS`. `*` stands for every
            model, or for every verb but `metrics` and `admin`.
        name: What people call them; may be empty.
        rate: Requests a second; None for the server's own limit.
        budget: Examples that they may have answered in all; None for the server's own limit.

    Example:

    >>> identity = Identity("alice", "jwt", ("digits:*",))
    >>> identity.may("digits", "predict"), identity.may("digits", "admin")
    (True, False)
    """

    id: str
    kind: str
    scopes: tuple[str, ...]
    name: str = ""
    rate: float | None = None
    budget: int | None = None

    def may(self, model: str, verb: str) -> bool:
        """Whether the scopes hold a verb on a model."""
        for scope in self.scopes:
            for_model, _, for_verb = scope.rpartition(":")
            if for_model in ("*", model) and (
                for_verb == verb or (for_verb == "*" and verb not in _NEVER_MEANT_BY_ALL)
            ):
                return True
        return False


def check_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Returns scopes as a tuple.

    Raises:
        InputError: There is none, or one is not `"MODEL:VERB"`.

    Example:

    >>> check_scopes(["digits:predict", "*:status"])
    ('digits:predict', '*:status')
    """
    given = (scopes,) if isinstance(scopes, str) else tuple(scopes)
    for scope in given:
        if not is_scope(scope):
            raise InputError(
                f"{scope!r} is no scope; expected MODEL:VERB, for example 'digits:predict' or "
                f"'*:*', with a verb of {', '.join(VERBS)}."
            )
    if not given:
        raise InputError("No scope was given; expected at least one, for example '*:predict'.")
    return given


def is_scope(text: object) -> bool:
    """Whether a text is `"MODEL:VERB"`."""
    if not isinstance(text, str):
        return False
    model, colon, verb = text.rpartition(":")
    return bool(colon) and (model == "*" or is_model_name(model)) and verb in ("*", *VERBS)


def is_model_name(text: str) -> bool:
    """Whether a text can be the name of a model in an address.

    Example:

    >>> is_model_name("digits-2.1"), is_model_name("../digits")
    (True, False)
    """
    return _MODEL_NAME.fullmatch(text) is not None
