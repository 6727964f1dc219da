"""What would let private steps go uncounted or unbounded around a `fit`, and is refused."""

import warnings
import weakref

from keras import tree

from keras_secure.errors import PrivacyError, PrivacyWarning

# The last private optimizer of each wrapped model, so that a second wrapper forgets nothing.
_LAST_OPTIMIZER: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def last_private_optimizer(model):
    """Returns the `DPOptimizer` that `model` was last compiled with in any wrapper, or None."""
    return _LAST_OPTIMIZER.get(model)


def remember_private_optimizer(model, optimizer):
    """Notes that `model` is compiled with a `DPOptimizer`."""
    _LAST_OPTIMIZER[model] = optimizer


def refuse_exchanged_optimizer(compiled, current):
    """Raises `PrivacyError` if a private optimizer came or went by assignment.

    Args:
        compiled: The `DPOptimizer` of the last `compile`, or None if there was none.
        current: The model's optimizer now, if it is a `DPOptimizer`, else None.
    """
    if compiled is not current:
        raise PrivacyError(
            "The optimizer is not the one that the model was last compiled with: it was assigned, "
            "or the model was compiled in another wrapper. What was spent would be forgotten. Call "
            "compile, which takes the ledger over."
        )


def check_callbacks(callbacks):
    """Refuses several budgets, and warns of callbacks that steer by exact training figures.

    Args:
        callbacks: What was given to `fit`: a list, a `CallbackList`, or None.

    Returns:
        bool: whether one of the callbacks sets a budget.
    """
    callbacks = tree.flatten(getattr(callbacks, "callbacks", callbacks) or ())
    budgets = [callback for callback in callbacks if hasattr(callback, "target_epsilon")]
    if len(budgets) > 1:
        raise PrivacyError(
            f"fit was given {len(budgets)} privacy budgets, of which only the last would hold. "
            "Give the strictest one alone."
        )
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor != "epsilon" and not monitor.startswith("val_"):
            warnings.warn(
                f"{type(callback).__name__} steers training by {monitor!r}, which is computed from "
                "the private data without noise, so epsilon does not cover what it decides. Let "
                "it monitor validation data that may be public.",
                PrivacyWarning,
                stacklevel=3,
            )
    return bool(budgets)
