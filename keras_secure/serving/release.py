"""One verified version of a model, ready to be asked."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from keras_secure.errors import InputError, IntegrityError, SecurityError
from keras_secure.integrity import current
from keras_secure.integrity.private_copy import private_copy
from keras_secure.integrity.signature_file import SIGNATURE_NAME
from keras_secure.integrity.trust import as_trust
from keras_secure.integrity.verify import verify
from keras_secure.integrity.versions import POINTER
from keras_secure.serving.dialect import DEFAULT_SIGNATURE
from keras_secure.serving.masking import Masking
from keras_secure.serving.tensors import TensorSpec

_TRIED_SIZES = tuple(2**power for power in range(10))


@dataclass(frozen=True)
class Release:
    """A model in memory, and what is known of the bundle it came from.

    Args:
        card: Its model card.
        functions: From an array to named arrays, by signature.
        serial: Serial number of its signature; 0 where it has none.
        digest: SHA-256 of its signature file, which names the bundle to the byte.
        signer: Fingerprint of the key that signed it.
    """

    card: dict[str, Any]
    functions: dict[str, Callable[[Any], dict[str, np.ndarray]]] = field(repr=False)
    serial: int
    digest: str
    signer: str

    @property
    def input(self) -> TensorSpec:
        """What it takes."""
        (spec,) = _specs(self.card["inputs"]).values()
        return spec

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """What its default signature gives, by name."""
        return _specs(self.card["outputs"])

    @property
    def signatures(self) -> dict[str, dict[str, TensorSpec]]:
        """What each signature gives, by name."""
        told = self.card["signatures"]
        return {name: _specs(told[name]) for name in self.functions}

    @property
    def labels(self) -> tuple[str, ...]:
        """A text for each class, empty where the card has none; nothing for no classifier."""
        count = self.card.get("num_classes") or 0
        metadata = self.card.get("metadata") or {}
        named = metadata.get("labels", metadata.get("classes"))
        if isinstance(named, list) and len(named) == count:
            return tuple(map(str, named))
        return ("",) * count

    @property
    def sensitive(self) -> tuple[str, ...]:
        """The fields that the card declares to be sensitive."""
        declared = (self.card.get("metadata") or {}).get("sensitive_fields", [])
        if not isinstance(declared, list) or any(type(name) is not str for name in declared):
            raise InputError(
                f"The bundle declares sensitive_fields as {declared!r}; a list of names was "
                "expected, such as ['age', 'x[3]']. Export it again."
            )
        return tuple(declared)


def load_release(
    path: str | os.PathLike,
    trust: Any,
    *,
    min_serial: int | None = None,
    check_weights: float = 0.0,
    signatures: Iterable[str] = (),
) -> Release:
    """Loads a bundle that a trusted key signed, and no other.

    It is copied to a folder that nobody else can write to, and verified and loaded there.

    Args:
        path: The bundle, or a store of them as `keras_secure.integrity.publish` makes it.
        trust: Whom to believe, as for `keras_secure.integrity.verify`.
        min_serial: The lowest serial number that is accepted.
        check_weights: As for `keras_secure.export.Bundle.load`.
        signatures: Signatures to load besides the default one.

    Returns:
        The `Release`; it was called once, so that no client waits for the first call.

    Raises:
        IntegrityError: The bundle is not, to the byte, what a trusted key signed.
        InputError: It is no bundle, or an argument cannot be used.
    """
    from keras_secure.export import open_bundle

    trusted = as_trust(trust)
    root = Path(os.path.abspath(path))
    if (root / POINTER).is_file() and not (root / SIGNATURE_NAME).exists():
        root = current(root)
    if not root.is_dir():
        raise InputError(f"There is no bundle at {root}; give the folder of an exported model.")
    with private_copy(root, root / SIGNATURE_NAME) as (copy, _):
        report = verify(copy, trusted, min_serial=min_serial)
        # Whoever reads of it knows the bundle by its own place.
        dataclasses.replace(report, path=str(root)).raise_if_failed()
        signature = (copy / SIGNATURE_NAME).read_bytes()
        bundle = open_bundle(copy, trusted)
        try:
            functions = {
                name: bundle.load(check_weights, name)
                for name in dict.fromkeys((DEFAULT_SIGNATURE, *signatures))
            }
        except SecurityError:
            raise
        except Exception as error:  # a framework has errors of its own
            raise InputError(f"The model of {root} cannot be loaded: {error}") from error
    release = Release(
        bundle.card,
        functions,
        report.serial,
        hashlib.sha256(signature).hexdigest(),
        report.key_fingerprint,
    )
    if release.input.shape is None or release.input.shape[:1] != (None,):
        raise InputError(f"The model of {root} takes no batches of any size, so it is not served.")
    Masking(release.sensitive)  # refuses what is no field
    for function in functions.values():
        _call_once(function, release.input, root)
    return release


def _call_once(function: Callable[[Any], Any], taken: TensorSpec, root: Path) -> None:
    """Calls a model on one example, where sizes may vary of the first size that it can compute."""
    dtype = "float32" if taken.dtype == "bfloat16" else taken.dtype
    sizes = taken.shape[1:] if taken.shape else ()
    for free in _TRIED_SIZES if None in sizes else (1,):
        try:
            function(np.zeros((1, *(free if size is None else size for size in sizes)), dtype))
            return
        except IntegrityError:
            raise
        except Exception as error:  # a framework has errors of its own
            failure = error
    raise InputError(f"The model of {root} computes no example: {failure}") from failure


def _specs(entries: dict[str, Any]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(name, entry["dtype"], tuple(entry["shape"]))
        for name, entry in entries.items()
    }
