"""Weights that change in memory where nothing should change them are noticed, and put back."""

import os
from functools import partial
from typing import Any

import keras

from keras_secure import backend
from keras_secure.errors import InputError, IntegrityError
from keras_secure.findings import Finding
from keras_secure.integrity import verify
from keras_secure.integrity.weights import WeightDigests, check_share, raise_changed
from keras_secure.training import inner_model


class WeightIntegrity(keras.callbacks.Callback):
    """Watches the weights of a model in memory during `fit`, `evaluate` and `predict`.

    All weights are hashed at the end of an epoch and of `fit`, and held against that when the next
    epoch, `evaluate` or `predict` begins. Within these two, and for frozen layers within `fit` too,
    each batch holds another `share` of the bytes against their digests, so that each round of
    `1 / share` batches sees every byte. What is found becomes a `Finding` that names the weights,
    in `findings`.

    Put it last in the list of callbacks, since others may change weights on purpose when an epoch
    ends. Those that change them when one begins, such as `SwapEMAWeights`, do not go with it. After
    `set_weights` or `load_weights` of your own, call `accept`.

    Not noticed are changes of weights that training changes anyway, changes that are undone before
    the next look, and whoever changes this object as well.

    Args:
        share: Share of the bytes that a batch looks at, from 0 to 1.
        on_change: `"raise"` an `IntegrityError`, or `"restore"` the recorded weights and go on.
        copy: For `"restore"`: a file that `model.save_weights` wrote and `keras_secure.integrity`
            signed, which is verified and then loaded. It fits weights that are not trained any
            more. Without it a copy is kept in memory, itself held against the digests before use.
        trust: For `copy`: whom to believe, as for `keras_secure.integrity.verify`.

    Raises:
        InputError: An argument cannot be used.

    Example:

    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    >>> guard = WeightIntegrity(share=1.0, on_change="restore")
    >>> x = np.ones((2, 4), "float32")
    >>> before = model.predict(x, verbose=0, callbacks=[guard])
    >>> _ = model.layers[0].kernel.assign(np.full((4, 2), 1e30))  # a fault in memory
    >>> bool((model.predict(x, verbose=0, callbacks=[guard]) == before).all())
    True
    >>> guard.findings[0].evidence["weights"] == [model.layers[0].kernel.path]
    True
    """

    def __init__(
        self,
        share: float = 0.01,
        on_change: str = "raise",
        copy: str | os.PathLike | None = None,
        trust: Any = None,
    ):
        super().__init__()
        if on_change not in ("raise", "restore"):
            raise InputError(f"on_change={on_change!r} was given; expected 'raise' or 'restore'.")
        if copy is not None and (trust is None or on_change != "restore"):
            raise InputError(
                "A copy is verified and restored from, so it needs trust=... and "
                "on_change='restore'; give both, or no copy."
            )
        self.share = check_share(share)
        self.on_change = on_change
        self.copy, self.trust = copy, trust
        self.findings: list[Finding] = []
        self._digests: WeightDigests | None = None
        self._frozen: WeightDigests | None = None
        self._variables: dict[str, Any] = {}
        self._kept: dict[str, Any] = {}
        self._is_training = False

    def accept(self) -> None:
        """Takes the weights as they are now for what they should be."""
        self._variables = _by_name(inner_model(self.model).weights)
        self._digests = _digests_of(self._variables)
        if self.on_change == "restore" and self.copy is None:
            self._kept = {name: value().copy() for name, value in _sources(self._variables).items()}

    def check(self, when: str = "on demand") -> tuple[str, ...]:
        """Holds all weights against their digests now.

        Args:
            when: What the finding says about the time.

        Returns:
            The names of those that had changed; they are restored if that was asked for.

        Raises:
            IntegrityError: Some had changed and are not to be, or cannot be, restored.
        """
        if self._digests is None or not self._is_same_model():
            self.accept()
            return ()
        return self._handle(self._digests.check(), when)

    def on_train_begin(self, logs=None):
        """Looks at what training starts from, and finds what it must not change."""
        self.check("when training began")
        self._is_training = True
        frozen = _by_name(_frozen_weights(inner_model(self.model)))
        # By the names among all weights, under which copies are kept.
        names = {id(variable): name for name, variable in self._variables.items()}
        frozen = {names[id(v)]: v for v in frozen.values() if id(v) in names}
        self._frozen = _digests_of(frozen) if frozen else None

    def on_epoch_begin(self, epoch, logs=None):
        """Looks at everything: between two epochs nothing changes weights."""
        self.check(f"before epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        """Looks at a part of the frozen weights."""
        if self._frozen is not None:
            self._handle(self._frozen.check_part(self.share), f"in training batch {batch}")

    def on_epoch_end(self, epoch, logs=None):
        """Looks at all frozen weights, and records all weights."""
        self._check_frozen(f"in epoch {epoch}")
        self.accept()

    def on_train_end(self, logs=None):
        """Records what training leaves."""
        self._check_frozen("when training ended")
        self._is_training = False
        self.accept()

    def on_test_begin(self, logs=None):
        """Looks at everything, or records what training has come to."""
        self._begin("when evaluation began")

    def on_test_batch_end(self, batch, logs=None):
        """Looks at a part."""
        self._check_part(f"in evaluation batch {batch}")

    def on_test_end(self, logs=None):
        """Looks at everything, before an epoch's end records it."""
        self.check("when evaluation ended")

    def on_predict_begin(self, logs=None):
        """Looks at everything."""
        self._begin("when prediction began")

    def on_predict_batch_end(self, batch, logs=None):
        """Looks at a part."""
        self._check_part(f"in prediction batch {batch}")

    def _begin(self, when: str) -> None:
        if self._is_training:
            self._check_frozen(when)
            self.accept()
        else:
            self.check(when)

    def _check_part(self, when: str) -> None:
        if self._digests is not None:
            self._handle(self._digests.check_part(self.share), when)

    def _check_frozen(self, when: str) -> None:
        if self._frozen is not None:
            self._handle(self._frozen.check(), when)

    def _is_same_model(self) -> bool:
        weights = inner_model(self.model).weights
        known = self._variables.values()
        return len(weights) == len(known) and all(
            a is b for a, b in zip(weights, known, strict=True)
        )

    def _handle(self, changed: tuple[str, ...], when: str) -> tuple[str, ...]:
        if not changed:
            return ()
        restored = self.on_change == "restore"
        self.findings.append(
            Finding(
                "integrity.memory",
                "critical",
                f"Weights changed in memory, noticed {when}: {', '.join(changed)}.",
                {"weights": list(changed), "when": when, "restored": restored},
                "Test the machine's memory, and look for code that writes to weights; results "
                "since the last look cannot be trusted.",
            )
        )
        if not restored:
            raise_changed(changed, f"model {self.model.name!r} ({when})")
        self._restore(changed)
        return changed

    def _restore(self, changed: tuple[str, ...]) -> None:
        assert self._digests is not None
        if self.copy is not None:
            verify(self.copy, self.trust).raise_if_failed()
            inner_model(self.model).load_weights(self.copy)
        for name in changed:
            if name in self._kept and self._digests.matches(name, self._kept[name]):
                self._variables[name].assign(self._kept[name])
            if not self._digests.matches(name, backend.host_array(self._variables[name])):
                source = "in memory was damaged too" if self.copy is None else "holds other weights"
                raise IntegrityError(
                    f"Weight {name} changed in memory and cannot be restored: the copy "
                    f"{self.copy or ''} {source}. Load the model again from its signed file."
                )


def _sources(variables: dict[str, Any]) -> dict[str, Any]:
    return {name: partial(backend.host_array, variable) for name, variable in variables.items()}


def _digests_of(variables: dict[str, Any]) -> WeightDigests:
    return WeightDigests(_sources(variables))


def _by_name(variables: list[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for variable in variables:
        name = variable.path
        named[f"{name} ({len(named)})" if name in named else name] = variable
    return named


def _frozen_weights(layer: Any) -> list[Any]:
    """The weights of layers that do not train; their batch statistics stand still too."""
    if not layer.trainable:
        return list(layer.weights)
    inner = [*getattr(layer, "layers", [])]
    if isinstance(getattr(layer, "layer", None), keras.layers.Layer):
        inner.append(layer.layer)
    found = {id(v): v for part in inner if part is not layer for v in _frozen_weights(part)}
    return list(found.values())
