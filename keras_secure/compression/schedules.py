"""How many weights are pruned, and at which steps the choice of them is made anew."""

from typing import Any

from keras import ops

from keras_secure.arguments import check_integer, check_number


class PolynomialDecay:
    """Sparsity that rises fast at first and then ever slower, from `begin_step` to `end_step`.

    At step t it is `final + (initial - final) * (1 - p)**power`, with p the share of the way from
    `begin_step` to `end_step`. Masks are chosen anew every `frequency` steps between the two, and
    at `end_step` whatever the frequency, so that the final sparsity is always reached.

    Args:
        initial_sparsity: Share of pruned weights at `begin_step`, in [0, 1).
        final_sparsity: Share at `end_step`, in [0, 1).
        begin_step: Step of the first choice, from 0; steps are the optimizer's `iterations`.
        end_step: Step of the last choice.
        power: Exponent.
        frequency: Steps from one choice to the next.

    Raises:
        InputError: A value is out of range.

    Example:

    >>> schedule = PolynomialDecay(0.5, 0.8, begin_step=0, end_step=100, frequency=10)
    >>> [(bool(chosen), round(float(share), 3)) for chosen, share in map(schedule, (0, 5, 50, 100))]
    [(True, 0.5), (False, 0.543), (True, 0.762), (True, 0.8)]

    Reference:
        Zhu and Gupta 2017 (arXiv 1710.01878), section 3.
    """

    def __init__(
        self,
        initial_sparsity: float,
        final_sparsity: float,
        begin_step: int,
        end_step: int,
        power: float = 3,
        frequency: int = 100,
    ):
        self.initial_sparsity = check_number("initial_sparsity", initial_sparsity, "[0, 1)")
        self.final_sparsity = check_number("final_sparsity", final_sparsity, "[0, 1)")
        self.begin_step = check_integer("begin_step", begin_step, 0)
        self.end_step = check_integer("end_step", end_step, self.begin_step)
        self.frequency = check_integer("frequency", frequency)
        check_number("power", power, "(0, inf)")
        self.power = power

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Returns whether masks are chosen anew at `step`, and the sparsity there; traceable."""
        step = ops.cast(step, "int32")
        length = max(1, self.end_step - self.begin_step)
        share = ops.clip(ops.cast(step - self.begin_step, "float32") / length, 0.0, 1.0)
        if self.end_step == self.begin_step:
            share = ops.ones_like(share)
        gap = self.initial_sparsity - self.final_sparsity
        sparsity = gap * ops.power(1.0 - share, float(self.power)) + self.final_sparsity
        return _chosen(step, self.begin_step, self.end_step, self.frequency), sparsity


class ConstantSparsity:
    """One sparsity from `begin_step` on.

    Args:
        target_sparsity: Share of pruned weights, in [0, 1).
        begin_step: Step of the first choice, from 0; steps are the optimizer's `iterations`.
        end_step: Step of the last choice; None to choose for as long as training goes on.
        frequency: Steps from one choice to the next.

    Raises:
        InputError: A value is out of range.

    Example:

    >>> schedule = ConstantSparsity(0.5, begin_step=2, frequency=3)
    >>> [bool(schedule(step)[0]) for step in range(7)]
    [False, False, True, False, False, True, False]
    """

    def __init__(
        self,
        target_sparsity: float,
        begin_step: int,
        end_step: int | None = None,
        frequency: int = 100,
    ):
        self.target_sparsity = check_number("target_sparsity", target_sparsity, "[0, 1)")
        self.begin_step = check_integer("begin_step", begin_step, 0)
        self.end_step = (
            None if end_step is None else check_integer("end_step", end_step, self.begin_step)
        )
        self.frequency = check_integer("frequency", frequency)

    def __call__(self, step: Any) -> tuple[Any, Any]:
        """Returns whether masks are chosen anew at `step`, and the sparsity there; traceable."""
        step = ops.cast(step, "int32")
        chosen = _chosen(step, self.begin_step, self.end_step, self.frequency)
        return chosen, ops.convert_to_tensor(self.target_sparsity, "float32")


def _chosen(step: Any, begin: int, end: int | None, frequency: int) -> Any:
    on_turn = ops.logical_and(step >= begin, ops.equal((step - begin) % frequency, 0))
    if end is None:
        return on_turn
    return ops.logical_or(ops.logical_and(on_turn, step < end), ops.equal(step, end))
