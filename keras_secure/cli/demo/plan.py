"""How much the demo trains and measures, by data set and by `--quick`."""

import math
from dataclasses import dataclass

# Attack sizes at which an undefended network of this kind falls.
_EPSILONS = {"digits": 0.15, "mnist": 0.2, "fashion_mnist": 0.1, "cifar10": 8 / 255}
_DEFAULT_EPSILON = 0.1


@dataclass(frozen=True)
class Plan:
    """Sizes of every stage.

    Args:
        epsilon: linf attack size for training and for the headline figure.
        epsilons: Attack sizes of the robustness curve.
        plain_epochs: Epochs of the plain and the robust training.
        robust_epochs: See `plain_epochs`.
        private_epochs: Epochs of the private training.
        batch_size: Of plain and robust training.
        private_batch_size: Expected batch size of private training.
        attack_steps: Steps of the attack that judges.
        attack_restarts: Its restarts.
        num_attacked: Test examples that are attacked.
    """

    epsilon: float
    epsilons: tuple[float, ...]
    plain_epochs: int
    robust_epochs: int
    private_epochs: int
    batch_size: int
    private_batch_size: int
    attack_steps: int
    attack_restarts: int
    num_attacked: int


def make_plan(dataset, quick=False, epsilon=None):
    """Returns the `Plan` for a `Dataset`: about as many steps whatever its size.

    Args:
        dataset: A `keras_secure.cli.data.Dataset`.
        quick: Whether to train and measure less.
        epsilon: Attack size; None for the data set's own.
    """
    size = len(dataset.x_train)
    batch_size = 64 if size < 10_000 else 128
    private_batch_size = max(1, min(size // 4, 256 if size < 10_000 else 1024))

    def epochs(steps, batch):
        return max(1, round(steps * batch / size))

    epsilon = epsilon or _EPSILONS.get(dataset.name, _DEFAULT_EPSILON)
    shares = (1 / 3, 2 / 3, 1, 2) if quick else (1 / 3, 2 / 3, 1, 4 / 3, 2, 3)
    return Plan(
        epsilon=epsilon,
        epsilons=_curve(epsilon, shares),
        plain_epochs=epochs(240 if quick else 360, batch_size),
        robust_epochs=epochs(450 if quick else 1000, batch_size),
        private_epochs=epochs(110 if quick else 220, private_batch_size),
        batch_size=batch_size,
        private_batch_size=private_batch_size,
        attack_steps=20 if quick else 50,
        attack_restarts=1 if quick else 5,
        num_attacked=min(len(dataset.x_test), 200 if quick else 500),
    )


def _curve(epsilon, shares):
    """Multiples of `epsilon` to four digits, none beyond the whole range of an input."""
    return tuple(sorted({min(1.0, float(f"{share * epsilon:.4g}")) for share in shares}))


def target_delta(num_examples):
    """Returns the largest power of ten that does not exceed one over the number of examples.

    Example:

    >>> target_delta(1437)
    0.0001
    """
    return 10.0 ** math.floor(math.log10(1.0 / num_examples))
