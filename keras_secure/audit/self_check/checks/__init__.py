"""Checks of the promises of private training, cheapest first."""

from keras_secure.audit.self_check.checks import (
    accounting,
    noise,
    refusals,
    replicas,
    steps,
    sums,
)

_ORDER = (
    noise.noise_has_the_promised_distribution,
    noise.noise_is_never_repeated,
    noise.saved_state_does_not_foretell_noise,
    accounting.batches_are_poisson_samples,
    accounting.sampled_steps_cost_what_dp_accounting_says,
    sums.sums_equal_the_loop,
    sums.non_finite_examples_count_as_zero,
    steps.the_divisor_is_fixed,
    steps.padding_counts_as_nothing,
    steps.empty_batches_count,
    steps.the_penalty_is_outside_the_clip,
    steps.no_step_beyond_the_budget,
    sums.one_example_moves_a_sum_by_the_clip_at_most,
    steps.every_step_is_counted,
    accounting.unsampled_steps_cost_the_full_gaussian,
    accounting.arrays_are_entered_as_they_are_drawn,
    refusals.averaged_gradients_are_refused,
    refusals.mixing_models_are_refused,
    refusals.mixing_losses_are_refused,
    refusals.hidden_uses_of_weights_are_found,
    refusals.checkpoints_cannot_forget,
    replicas.replicas_add_one_draw,
)

CHECKS = {check.__name__.replace("_", " "): check for check in _ORDER}
