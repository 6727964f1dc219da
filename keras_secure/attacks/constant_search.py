"""The binary search over the weight of the hinge, example by example, in one flat loop.

Carlini & Wagner's attack and its elastic-net relative minimize distance + c * hinge for a fixed c,
many times over, and search for the c at which the distance is smallest. Here every example has its
own c, its own iteration within the trial and its own number of the trial, so that one which gives
up early goes on with its next c while its batch-mates are still at the last.
"""

from keras import ops

UNBOUNDED = 1e10
"""Upper end of the search while no c has succeeded."""


def first_trial(x, initial_const):
    """Returns the entries of the state that the search keeps.

    Args:
        x: Tensor of shape (batch, ...), floating.
        initial_const: First c.

    Returns:
        A dictionary of tensors of shape (batch,).
    """
    batch = ops.shape(x)[0]
    return {
        "const": ops.full((batch,), initial_const, "float32"),
        "const_low": ops.zeros((batch,), "float32"),
        "const_high": ops.full((batch,), UNBOUNDED, "float32"),
        "iteration": ops.zeros((batch,), "int32"),
        "trial": ops.zeros((batch,), "int32"),
        "checked": ops.full((batch,), float("inf"), "float32"),
        "succeeded": ops.zeros((batch,), "bool"),
    }


def next_iteration(state, fooled, objective, *, max_iterations, abort_early):
    """Ends an iteration: with the trial, if it was the last or nothing was gained, the next c.

    Args:
        state: Dictionary with the entries of `first_trial`.
        fooled: Boolean tensor of shape (batch,): whether the iterate does what is wanted.
        objective: Tensor of shape (batch,): what is minimized, at the iterate.
        max_iterations: Iterations of one trial.
        abort_early: Whether a trial ends when a tenth of its iterations gained nothing.

    Returns:
        (entries, over): the entries of `first_trial` anew, and a boolean tensor of shape (batch,),
        whether this row begins a new trial.

    Example:

    >>> state = first_trial(ops.zeros((1, 3)), 0.5)
    >>> yes = ops.ones((1,), "bool")
    >>> entries, over = next_iteration(
    ...     state, yes, ops.ones((1,)), max_iterations=1, abort_early=False
    ... )
    >>> bool(over[0]), float(entries["const"][0])
    (True, 0.25)
    """
    iteration = state["iteration"] + 1
    over = iteration >= max_iterations
    checked = state["checked"]
    if abort_early:
        looks = ops.equal(state["iteration"] % max(1, max_iterations // 10), 0)
        over = ops.logical_or(over, ops.logical_and(looks, objective > 0.9999 * checked))
        checked = ops.where(looks, objective, checked)
    succeeded = ops.logical_or(state["succeeded"], fooled)

    const, low, high = (state[name] for name in ("const", "const_low", "const_high"))
    high_after = ops.where(succeeded, ops.minimum(high, const), high)
    low_after = ops.where(succeeded, low, ops.maximum(low, const))
    # Until one c has succeeded, the next is ten times as large.
    const_after = ops.where(high_after < UNBOUNDED, (low_after + high_after) / 2, 10.0 * const)
    entries = {
        "const": ops.where(over, const_after, const),
        "const_low": ops.where(over, low_after, low),
        "const_high": ops.where(over, high_after, high),
        "iteration": ops.where(over, 0, iteration),
        "trial": state["trial"] + ops.cast(over, "int32"),
        "checked": ops.where(over, float("inf"), checked),
        "succeeded": ops.logical_and(succeeded, ops.logical_not(over)),
    }
    return entries, over
