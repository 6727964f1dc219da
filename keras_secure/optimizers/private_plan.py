"""What a private optimizer may be given; what would void the guarantee is refused."""

import dataclasses

import numpy as np

from keras_secure.errors import PrivacyError
from keras_secure.privacy import DeterministicPasses

# Outside, squares of gradients under- or overflow in float32 and norms would be underestimated.
CLIPS = (1e-8, 1e8)

# The kinds of sampling by which `fit` draws batches itself.
_DRAWN = ("poisson", "balls_in_bins", "deterministic")


def check_plan(optimizer, l2_norm_clip, noise_multiplier, expected_batch_size):
    """Refuses sizes out of range, and optimizers that would act on what was clipped and noised.

    Raises:
        PrivacyError: The guarantee would not hold.
    """
    if not CLIPS[0] <= l2_norm_clip <= CLIPS[1]:
        raise PrivacyError(
            f"l2_norm_clip is {l2_norm_clip}; it is the bound that the noise is scaled to and must "
            f"lie between {CLIPS[0]:g} and {CLIPS[1]:g}, where float32 holds norms exactly. "
            "Scale the loss instead."
        )
    if not noise_multiplier >= 0 or not np.isfinite(noise_multiplier):
        raise PrivacyError(f"noise_multiplier is {noise_multiplier}; it must be finite and >= 0.")
    if expected_batch_size is not None and not expected_batch_size > 0:
        raise PrivacyError(f"expected_batch_size is {expected_batch_size}; it must be positive.")
    if hasattr(optimizer, "inner_optimizer"):
        raise PrivacyError(
            f"DPOptimizer was given a {type(optimizer).__name__}, which is itself a wrapper. Give "
            "it the plain optimizer; loss scaling for float16 is done before the clip."
        )
    if optimizer.gradient_accumulation_steps:
        raise PrivacyError(
            "gradient_accumulation_steps is set on the inner optimizer: several draws would be "
            "accounted as one. Remove it; take a larger batch instead."
        )
    if optimizer.loss_scale_factor:
        raise PrivacyError(
            "loss_scale_factor is set on the inner optimizer, which would scale the noise away. "
            "Remove it; loss scaling for float16 is done before the clip."
        )


def check_microbatch_size(microbatch_size):
    """Refuses what is no number of examples.

    Raises:
        PrivacyError: It is neither None nor a positive integer.
    """
    if microbatch_size is not None and not (
        isinstance(microbatch_size, (int, np.integer)) and microbatch_size > 0
    ):
        raise PrivacyError(
            f"microbatch_size is {microbatch_size!r}; it must be a positive whole number of "
            "examples, or None."
        )


def check_drawing(sampling, bands):
    """Refuses kinds of sampling that there are not, and numbers of bands that do not go with them.

    Raises:
        PrivacyError: One cannot be used.
    """
    if isinstance(sampling, str) and sampling not in _DRAWN:
        raise PrivacyError(
            f"sampling={sampling!r} names no kind of sampling; use one of "
            f"{', '.join(map(repr, _DRAWN))}, or a privacy.Sampling."
        )
    if isinstance(bands, bool) or not isinstance(bands, int) or bands < 1:
        raise PrivacyError(f"bands is {bands!r}; it must be a positive int.")
    if bands > 1 and sampling != "deterministic":
        check_bands(sampling, bands)


def check_bands(sampling, bands):
    """Refuses correlated noise where one example may take part within `bands` steps again.

    Raises:
        PrivacyError: The sampling does not promise that it cannot.
    """
    if not isinstance(sampling, DeterministicPasses):
        found = "nothing" if sampling is None else type(sampling).__name__
        raise PrivacyError(
            f"bands={bands} correlates the noise of {bands} steps, among which no example may "
            f"occur twice, but the sampling ({found}) does not promise that. Give "
            "sampling='deterministic' and train with fit, or take bands=1."
        )
    dataclasses.replace(sampling, bands=bands)
