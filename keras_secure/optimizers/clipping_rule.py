"""What a rule for clipping gradients may say."""

from keras_secure.errors import InputError

MODES = ("value", "norm", "global_norm", "percentile")


def check_rule(mode, threshold, percentile, window):
    """Refuses a clipping rule that is incomplete or out of range.

    Args:
        mode: See `ClippingOptimizer`.
        threshold: See `ClippingOptimizer`; any callable is accepted here.
        percentile: See `ClippingOptimizer`.
        window: See `ClippingOptimizer`.

    Raises:
        InputError: Saying what was expected.
    """
    if mode not in MODES:
        raise InputError(
            f"Gradient clipping got mode={mode!r}; expected one of {', '.join(map(repr, MODES))}."
        )
    if mode == "percentile":
        if threshold is not None:
            raise InputError(
                f"Gradient clipping got threshold={threshold!r} with mode='percentile', where the "
                "recent norms give the threshold. Leave it out, or choose mode='global_norm'."
            )
    elif not callable(threshold):
        is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
        if not (is_number and 0.0 <= threshold < float("inf")):
            raise InputError(
                f"Gradient clipping got threshold={threshold!r} with mode={mode!r}; expected a "
                "finite number that is at least 0, or a schedule that gives it from the step."
            )
    if not 0.0 <= percentile <= 100.0:
        raise InputError(f"Gradient clipping got percentile={percentile!r}; expected 0 to 100.")
    if isinstance(window, bool) or int(window) != window or window < 1:
        raise InputError(f"Gradient clipping got window={window!r}; expected an int, at least 1.")
