"""Defects that would break a promise of private training, each seeded for a moment.

A defect replaces one function of the engine in this process, as a wrong line in that function
would, and puts it back. Nothing is written to disk.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
from keras import ops

from keras_secure import backend
from keras_secure.optimizers import DPOptimizer
from keras_secure.optimizers.accounted_optimizer import AccountedOptimizer
from keras_secure.privacy import (
    ClippedSum,
    Ledger,
    Materialized,
    OuterProducts,
    PerExampleClipping,
    PoissonBatches,
    PoissonSampling,
    UnstatedSampling,
)
from keras_secure.privacy.noise import NoiseSource
from keras_secure.privacy.per_example_gradients import PerExampleGradients
from keras_secure.training import private_data, private_training
from keras_secure.training.private_training import PrivateTraining


@dataclass(frozen=True)
class Defect:
    """One way to break the engine.

    Args:
        name: Short name.
        aim: The check that should catch it.
        seed: Function without arguments that returns a context manager, inside which the engine
            has the defect.
    """

    name: str
    aim: str
    seed: Callable[[], AbstractContextManager]


DEFECTS: list[Defect] = []


def _defect(name, aim):
    def register(seed):
        DEFECTS.append(Defect(name, aim, seed))
        return seed

    return register


def _noise(change):
    """Replaces what is drawn by `change(draw, source, shapes, stddev, step)`."""
    draw = NoiseSource.normal

    def changed(self, shapes, stddev, step, allowed=True):
        return change(draw, self, shapes, stddev, step)

    return mock.patch.object(NoiseSource, "normal", changed)


def _sums(**changed):
    """Calls the clipping with other arguments, and states the promised bound all the same."""
    clip = PerExampleClipping.clipped_sum

    def wrong(self, losses, *, l2_norm_clip, **kwargs):
        arguments = {"l2_norm_clip": l2_norm_clip, **kwargs}
        arguments.update({name: change(arguments) for name, change in changed.items()})
        total, *rest = clip(self, losses, **arguments)
        return ClippedSum(total.values, l2_norm_clip, total.norms), *rest

    return mock.patch.object(PerExampleClipping, "clipped_sum", wrong)


@_defect("half the noise", aim="noise has the promised distribution")
def _half_the_noise():
    return _noise(lambda draw, source, shapes, stddev, step: draw(source, shapes, stddev / 2, step))


@_defect("noise not scaled by the clip", aim="noise has the promised distribution")
def _unscaled_noise():
    return mock.patch.object(
        DPOptimizer,
        "noise_multiplier",
        property(lambda self: self._noise_multiplier / self._l2_norm_clip),
    )


@_defect("uniform noise of the right variance", aim="noise has the promised distribution")
def _uniform_noise():
    def uniform(draw, source, shapes, stddev, step):
        from scipy import special

        reach = np.sqrt(3.0)
        drawn = draw(source, shapes, 1.0, step)
        return [
            stddev * ops.cast(reach * special.erf(np.asarray(d) / np.sqrt(2)), "float32")
            for d in drawn
        ]

    return _noise(uniform)


@_defect("noise cut at three deviations", aim="noise has the promised distribution")
def _cut_noise():
    return _noise(
        lambda draw, source, shapes, stddev, step: [
            stddev * ops.clip(d, -3.0, 3.0) for d in draw(source, shapes, 1.0, step)
        ]
    )


@_defect("the same noise in every step", aim="noise is never repeated")
def _same_noise_in_every_step():
    return _noise(
        lambda draw, source, shapes, stddev, step: draw(
            source, shapes, stddev, ops.zeros_like(step)
        )
    )


@_defect("the same noise for every variable", aim="noise is never repeated")
def _same_noise_for_every_variable():
    return _noise(
        lambda draw, source, shapes, stddev, step: [
            draw(source, [shape], stddev, step)[0] for shape in shapes
        ]
    )


@_defect("one key for every run", aim="noise is never repeated")
def _one_key_for_every_run():
    create = NoiseSource.__init__
    return mock.patch.object(
        NoiseSource, "__init__", lambda self, seed=None, secure=False: create(self, 0, secure)
    )


@_defect("the key copied with its source", aim="saved state does not foretell noise")
def _copied_key():
    return mock.patch.object(NoiseSource, "__deepcopy__", lambda self, memo: self)


@_defect("the key in the configuration", aim="saved state does not foretell noise")
@contextlib.contextmanager
def _key_in_configuration():
    describe, rebuild = DPOptimizer.get_config, DPOptimizer.from_config
    kept: dict[str, Any] = {}

    def get_config(self):
        kept["noise"] = self._noise
        return describe(self)

    def from_config(cls, config, custom_objects=None):
        optimizer = rebuild(config, custom_objects)
        optimizer._noise = kept["noise"]
        return optimizer

    with (
        mock.patch.object(DPOptimizer, "get_config", get_config),
        mock.patch.object(DPOptimizer, "from_config", classmethod(from_config)),
        mock.patch.object(NoiseSource, "renew", _renew_once),
    ):
        yield


_take_key = NoiseSource.renew


def _renew_once(self):
    if getattr(self, "_key", None) is None:
        _take_key(self)


@_defect("noise for every replica", aim="replicas add one draw")
def _noise_for_every_replica():
    return _noise(
        lambda draw, source, shapes, stddev, step: [
            d * backend.replica_count() ** 0.5 for d in draw(source, shapes, stddev, step)
        ]
    )


@_defect("no clip", aim="one example moves a sum by the clip at most")
def _no_clip():
    return _sums(l2_norm_clip=lambda arguments: 1e6)


@_defect("clip a thousandth too high", aim="one example moves a sum by the clip at most")
def _loose_clip():
    return _sums(l2_norm_clip=lambda arguments: 1.001 * arguments["l2_norm_clip"])


@_defect("padding counted as examples", aim="padding counts as nothing")
def _padding_counted():
    return _sums(example_mask=lambda arguments: None)


@_defect("norms without the biases", aim="one example moves a sum by the clip at most")
def _norms_without_biases():
    norms = Materialized.squared_norms
    return mock.patch.object(Materialized, "squared_norms", lambda self: 0.0 * norms(self))


@_defect("norms without the cross terms of positions", aim="sums equal the loop")
def _norms_without_cross_terms():
    def squared_norms(self):
        inputs, grads = self.factors
        left = ops.sum(ops.square(inputs), axis=2 if self.positions_last else 3)
        return ops.sum(left * ops.sum(ops.square(grads), axis=3), axis=(1, 2))

    return mock.patch.object(OuterProducts, "squared_norms", squared_norms)


@_defect("non-finite gradients let through", aim="non finite examples count as zero")
def _non_finite_let_through():
    from keras_secure.privacy import clipping

    return mock.patch.object(clipping, "_silence", lambda contributions, finite: None)


@_defect("weights used behind a layer's back", aim="hidden uses of weights are found")
def _hidden_weights():
    return mock.patch.object(PerExampleGradients, "verify", lambda self, losses, **kwargs: None)


@_defect("division by the realised batch size", aim="the divisor is fixed")
def _realised_batch_size():
    update = PrivateTraining.update

    def wrong(self, batch, mask):
        divisor = self.secure.optimizer._divisor.value
        promised = ops.copy(ops.convert_to_tensor(divisor))
        divisor.assign(ops.maximum(ops.sum(ops.cast(mask, "float32")), 1.0))
        update(self, batch, mask)
        divisor.assign(promised)

    return mock.patch.object(PrivateTraining, "update", wrong)


@_defect("empty batches skipped", aim="empty batches count")
def _empty_batches_skipped():
    update = PrivateTraining.update

    def wrong(self, batch, mask):
        if mask is not None and not bool(np.any(np.asarray(mask))):
            return
        update(self, batch, mask)

    return mock.patch.object(PrivateTraining, "update", wrong)


@_defect("steps of train_on_batch not counted", aim="every step is counted")
def _uncounted_steps():
    begin, count = PrivateTraining.begin_unsampled, AccountedOptimizer.count_step

    def begin_unsampled(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        self.secure.optimizer._is_single = True

    def count_step(self, step, allowed):
        if not getattr(self, "_is_single", False):
            count(self, step, allowed)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(PrivateTraining, "begin_unsampled", begin_unsampled))
    stack.enter_context(mock.patch.object(AccountedOptimizer, "count_step", count_step))
    return stack


@_defect("a second fit starts the ledger anew", aim="every step is counted")
def _second_fit_forgets():
    begin = Ledger.begin

    def wrong(self, phase, executed_steps, *args, **kwargs):
        begin(self, phase, executed_steps, *args, **kwargs)
        self.finished = [dataclasses.replace(p, steps=0) for p in self.finished]

    return mock.patch.object(Ledger, "begin", wrong)


@_defect("compiling anew forgets the ledger", aim="every step is counted")
def _recompile_forgets():
    return mock.patch.object(AccountedOptimizer, "inherit_ledger", lambda self, other: None)


@_defect("the budget ends fit, not the step", aim="no step beyond the budget")
def _budget_outside_the_step():
    return mock.patch.object(
        AccountedOptimizer,
        "next_step",
        lambda self: (
            ops.maximum(ops.convert_to_tensor(self.private_steps), self._released.value),
            ops.convert_to_tensor(True),
        ),
    )


@_defect("shuffled batches accounted as Poisson", aim="unsampled steps cost the full gaussian")
def _shuffle_accounted_as_poisson():
    def loss_distribution(self, noise_multiplier, steps):
        return PoissonSampling(0.1, 1000).loss_distribution(noise_multiplier, steps)

    return mock.patch.object(UnstatedSampling, "loss_distribution", loss_distribution)


@_defect("fixed-size batches accounted as Poisson", aim="batches are poisson samples")
def _fixed_size_batches():
    def draw(self):
        size = round(self.sampling.dataset_size * self.sampling.sampling_probability)
        return self.generator.choice(self.sampling.dataset_size, size, replace=False)

    return mock.patch.object(PoissonBatches, "draw", draw)


@_defect("examples drawn with replacement", aim="batches are poisson samples")
def _drawn_with_replacement():
    def draw(self):
        count = self.sampling.dataset_size
        size = self.generator.binomial(count, self.sampling.sampling_probability)
        return self.generator.integers(0, count, size)

    return mock.patch.object(PoissonBatches, "draw", draw)


@_defect(
    "the sampling probability halved in the ledger", aim="arrays are entered as they are drawn"
)
def _halved_probability():
    batches = private_data.PrivateArrays.batches

    def wrong(self, *args, **kwargs):
        stream = batches(self, *args, **kwargs)
        half = stream.sampling.sampling_probability / 2
        stated = dataclasses.replace(stream.sampling, sampling_probability=half)
        stream = copy.copy(stream)
        stream.sampling = stated
        return stream

    return mock.patch.object(private_data.PrivateArrays, "batches", wrong)


@_defect("only the last phase accounted", aim="sampled steps cost what dp accounting says")
def _only_the_last_phase():
    from keras_secure.privacy import accounting

    spent = accounting.epsilon

    def wrong(phases, target_delta, **kwargs):
        phases = list(phases) if isinstance(phases, (list, tuple)) else [phases]
        return spent(phases[-1:], target_delta, **kwargs)

    stack = contextlib.ExitStack()
    stack.enter_context(mock.patch.object(accounting, "epsilon", wrong))
    stack.enter_context(mock.patch("keras_secure.privacy.epsilon", wrong))
    return stack


@_defect("models that mix examples let through", aim="mixing models are refused")
def _mixing_models():
    return mock.patch.object(private_training, "check_model", lambda model, inputs: None)


@_defect("losses that mix examples let through", aim="mixing losses are refused")
def _mixing_losses():
    return mock.patch.object(private_training, "check_loss", lambda *arguments: None)


@_defect("averaged gradients accepted", aim="averaged gradients are refused")
def _averaged_gradients():
    def apply(self, grads, trainable_variables=None):
        self.inner_optimizer.apply(grads, trainable_variables)

    return mock.patch.object(DPOptimizer, "apply", apply)


@_defect("older checkpoints restored", aim="checkpoints cannot forget")
def _older_checkpoints():
    load = AccountedOptimizer.load_own_variables

    def wrong(self, store):
        # Keeps the refusal of missing and unreadable ledgers, but not of old ones.
        if "ledger" in store and self.executed_steps:
            return
        load(self, store)

    return mock.patch.object(AccountedOptimizer, "load_own_variables", wrong)


@_defect("checkpoints without a ledger restored", aim="checkpoints cannot forget")
def _checkpoints_without_ledger():
    load = AccountedOptimizer.load_own_variables

    def wrong(self, store):
        if "ledger" in store:
            load(self, store)

    return mock.patch.object(AccountedOptimizer, "load_own_variables", wrong)


@_defect("regularizers clipped and divided with the data", aim="the penalty is outside the clip")
def _penalty_divided():
    penalties = PrivateTraining._penalty_gradients

    def wrong(self, variables):
        found = penalties(self, variables)
        return found if found is None else [p / 10.0 for p in found]

    return mock.patch.object(PrivateTraining, "_penalty_gradients", wrong)
