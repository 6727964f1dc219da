"""All examples of one user together: bounding them, and what they cost."""

import math

import numpy as np

from keras_secure.errors import InputError


def bound_contributions(user_ids, max_examples_per_user, seed=None):
    """Chooses examples so that no user contributes more than a given number of them.

    Training on the chosen examples protects users, not only single examples, with the epsilon that
    `optimizer.epsilon(target_delta, max_examples_per_user=...)` reports.

    Args:
        user_ids: (num_examples,) array that says whose each example is.
        max_examples_per_user: Positive int.
        seed: None draws from the operating system's entropy; an int makes the choice repeatable.
            Which of a user's own examples are kept depends on nobody else's.

    Returns:
        (num_kept,) int64 array of indices, in increasing order.

    Raises:
        InputError: if the bound is not a positive whole number or the identities are no vector.

    Example:

    >>> users = np.array(["ann", "bob", "ann", "ann", "bob"])
    >>> kept = bound_contributions(users, 2)
    >>> np.unique(users[kept], return_counts=True)[1]
    array([2, 2])
    """
    user_ids = np.asarray(user_ids)
    if user_ids.ndim != 1:
        raise InputError(
            f"user_ids has the shape {user_ids.shape}; give one identity for every example."
        )
    if max_examples_per_user != int(max_examples_per_user) or max_examples_per_user < 1:
        raise InputError(
            f"max_examples_per_user is {max_examples_per_user}; it must be a whole number of at "
            "least 1."
        )
    order = np.random.default_rng(seed).permutation(len(user_ids))
    _, users = np.unique(user_ids[order], return_inverse=True)
    by_user = np.argsort(users, kind="stable")
    counts = np.bincount(users)
    rank = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(order[by_user[rank < max_examples_per_user]])


class GroupLoss:
    """What a group of examples loses by a mechanism of which only one example's loss is known.

    Moving from one data set to another that differs in k examples takes k steps, each of which
    changes probabilities by a factor of e^(epsilon/k) and a summand of delta. So the group has
    (epsilon, delta (1 + e^(epsilon/k) + ... + e^((k-1) epsilon/k)))-DP. Much looser than what is
    computed for the group itself, where that is known.

    Args:
        single: dp-accounting's privacy loss distribution for one example.
        group_size: Examples that may change together.

    Reference: Dwork and Roth 2014, The Algorithmic Foundations of Differential Privacy, theorem 2.2
    and its extension to delta > 0.
    """

    def __init__(self, single, group_size):
        self.single, self.group_size = single, group_size

    def get_delta_for_epsilon(self, epsilon):
        """Returns a delta that holds for the group, or an array of them for one of epsilons."""
        share = np.asarray(epsilon, "float64") / self.group_size
        single = np.asarray(self.single.get_delta_for_epsilon(share))
        log_sum = np.logaddexp.reduce([i * share for i in range(self.group_size)])
        with np.errstate(divide="ignore"):
            return np.exp(np.minimum(0.0, np.log(single) + log_sum))[()]

    def get_epsilon_for_delta(self, delta):
        """Returns an epsilon that holds for the group, within one part in ten thousand."""
        low, high = 0.0, 1.0
        while self.get_delta_for_epsilon(high) > delta:
            low, high = high, 2.0 * high
            if high > 1e5:
                return math.inf
        while high - low > 1e-4 * high:
            middle = 0.5 * (low + high)
            low, high = (
                (low, middle) if self.get_delta_for_epsilon(middle) <= delta else (middle, high)
            )
        return high
