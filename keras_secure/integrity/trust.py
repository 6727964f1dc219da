"""Whom a verifier believes: keys with names and dates, how many must sign, which are revoked."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from keras_secure.arguments import is_integer
from keras_secure.errors import InputError
from keras_secure.integrity.key_files import load_public_key
from keras_secure.integrity.keys import fingerprint, kind_of
from keras_secure.integrity.times import as_time


@dataclass(frozen=True)
class TrustedKey:
    """A public key and what is known of it.

    Args:
        key: The public key, or anything that `load_public_key` takes.
        name: What people call it.
        not_before: From when on it may have signed; None for always.
        not_after: Until when signatures of it are accepted; None for ever. Both as a `datetime`
            with a time zone, or as text such as `"2027-12-31"`, which is its first second in UTC.
        endorsed_by: Names of the keys that vouch for it, where it was not trusted by itself.
    """

    key: Any
    name: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    endorsed_by: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "key", load_public_key(self.key))
        for field in ("not_before", "not_after"):
            if (time := getattr(self, field)) is not None:
                object.__setattr__(self, field, as_time(time, field))

    @property
    def fingerprint(self) -> str:
        """The key's fingerprint."""
        return fingerprint(self.key)

    @property
    def label(self) -> str:
        """Name and fingerprint, for messages."""
        return f"{self.name!r} ({self.fingerprint})" if self.name else self.fingerprint


@dataclass(frozen=True)
class Revocation:
    """A key that is believed no more.

    Args:
        fingerprint: Of the key.
        reason: Why.
        since: When that was found out, for information: whoever stole a key can write any date.
    """

    fingerprint: str
    reason: str
    since: datetime | None = None


@dataclass(frozen=True)
class Trust:
    """Keys, how many of them must have signed, and those that are revoked.

    Args:
        keys: The trusted keys: `TrustedKey`, or anything that `load_public_key` takes.
        threshold: How many different ones must have signed, at least 1.
        revoked: What is believed no more, trusted or endorsed as it may be.
        endorsements: Contents of files that `endorse` wrote: new keys that trusted ones vouch for.

    Example:

    >>> from keras_secure.integrity import generate_key_pair
    >>> old, new = generate_key_pair()[1], generate_key_pair()[1]
    >>> trust = Trust((old,)).add(new, name="release 2027").revoke(old, "a stolen laptop")
    >>> [key.name for key in trust.keys], trust.revoked[0].reason
    (['', 'release 2027'], 'a stolen laptop')
    """

    keys: tuple[TrustedKey, ...]
    threshold: int = 1
    revoked: tuple[Revocation, ...] = ()
    endorsements: tuple[bytes, ...] = ()

    def __post_init__(self):
        given = self.keys if isinstance(self.keys, list | tuple) else (self.keys,)
        keys = tuple(key if isinstance(key, TrustedKey) else TrustedKey(key) for key in given)
        object.__setattr__(self, "keys", keys)
        prints = [key.fingerprint for key in keys]
        if len(set(prints)) < len(prints):
            raise InputError("A key stands in the trust twice; expected each once: remove one.")
        if not is_integer(self.threshold) or self.threshold < 1:
            raise InputError(
                f"The threshold is {self.threshold!r}; expected how many keys must sign, 1 or more."
            )
        if self.threshold > len(keys) and not self.endorsements:
            raise InputError(
                f"The threshold is {self.threshold} and there are {len(keys)} keys, so nothing "
                "could ever be accepted. Add keys, or lower the threshold."
            )

    def add(
        self,
        key: Any,
        name: str = "",
        not_before: datetime | str | None = None,
        not_after: datetime | str | None = None,
    ) -> "Trust":
        """Returns a trust that has one more key.

        Args:
            key: Anything that `load_public_key` takes.
            name: What people call it.
            not_before: From when on it may have signed.
            not_after: Until when its signatures are accepted.

        Raises:
            InputError: It is there already, cannot be read, or a time is none.
        """
        new = TrustedKey(
            key,
            name,
            None if not_before is None else as_time(not_before, "not_before"),
            None if not_after is None else as_time(not_after, "not_after"),
        )
        return replace(self, keys=(*self.keys, new))

    def revoke(self, key: Any, reason: str, since: datetime | str | None = None) -> "Trust":
        """Returns a trust that believes a key no more.

        Args:
            key: A fingerprint, or anything that `load_public_key` takes.
            reason: Why; it is shown to whoever meets a signature of the key.
            since: When that was found out, for information.

        Raises:
            InputError: The reason is empty, or the key cannot be read.
        """
        if not reason:
            raise InputError("A revocation needs a reason, which its readers will be shown.")
        is_print = isinstance(key, str) and key.startswith("sha256:")
        name = key if is_print else fingerprint(key)
        time = None if since is None else as_time(since, "since")
        return replace(self, revoked=(*self.revoked, Revocation(name, reason, time)))

    def find_revocation(self, key: TrustedKey) -> Revocation | None:
        """Returns why a key is believed no more, or None."""
        name = key.fingerprint
        return next((entry for entry in self.revoked if entry.fingerprint == name), None)

    def problem(self, key: TrustedKey, at: datetime) -> str:
        """Says why a key does not count at a point in time; empty when it does."""
        if entry := self.find_revocation(key):
            return f"it was revoked: {entry.reason}"
        return date_problem(key, at)


def date_problem(key: TrustedKey, at: datetime) -> str:
    """Says how a point in time lies outside a key's dates; empty when it lies inside."""
    if key.not_before and at < key.not_before:
        return f"it is valid from {key.not_before:%Y-%m-%d %H:%M} UTC on"
    if key.not_after and at > key.not_after:
        return f"it expired at {key.not_after:%Y-%m-%d %H:%M} UTC"
    return ""


def as_trust(source: Any) -> Trust:
    """Makes a trust of what a caller believes.

    Args:
        source: A `Trust`; a public key, its PEM file or the file's bytes; several of these, any one
            of which is enough; or the path of a trust file, which is believed as it is (use
            `load_trust` for one that must be signed).

    Returns:
        The `Trust`.

    Raises:
        InputError: It is none of these.

    Example:

    >>> from keras_secure.integrity import generate_key_pair
    >>> as_trust(generate_key_pair()[1]).threshold
    1
    """
    from keras_secure.integrity.trust_files import is_trust_file, read_trust

    if isinstance(source, Trust):
        return source
    if isinstance(source, TrustedKey):
        return Trust((source,))
    if isinstance(source, str | os.PathLike) and is_trust_file(source):
        return read_trust(source)
    several = isinstance(source, Iterable) and not isinstance(source, str | bytes | Mapping)
    if several and not kind_of(source) and not isinstance(source, os.PathLike):
        return Trust(tuple(source))
    return Trust((TrustedKey(source),))
