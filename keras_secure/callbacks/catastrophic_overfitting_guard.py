"""Notices when training on a cheap attack has stopped making a model robust, and undoes it."""

import math
from typing import Any

import keras
import numpy as np

from keras_secure.arguments import check_integer, check_number
from keras_secure.attacks import PGD, Attack
from keras_secure.attacks.arrays import check_arrays
from keras_secure.errors import InputError, PrivacyError
from keras_secure.intervals import proportion_interval
from keras_secure.training import SecureModel


class CatastrophicOverfittingGuard(keras.callbacks.Callback):
    """Detects catastrophic overfitting during `fit`, goes back, and stops it from returning.

    A model trained on a single-step attack may within a few batches learn to defeat that step and
    nothing else: it withstands the attack it is trained on while PGD fools it on almost
    everything. Neither the training loss nor its accuracy shows this. The guard attacks a few
    held-out examples both ways, and speaks of a collapse where accuracy under PGD has fallen by the
    share `drop` from its best, by more than chance explains, though accuracy under the trained-on
    attack has not; or where the two are `gap` apart. It then

    1. restores weights, statistics and optimizer state of the last good look (or of the start),
    2. lets `relief`, a PGD of a few steps, take the place of the objective's attack for the next
       `relief_batches` batches, by a variable that the traced step reads: nothing is traced again,
    3. if training collapses again soon after, keeps the relief for twice as long, each time.

    The optimizer's count of steps is not turned back, so that a learning-rate schedule ends when
    `fit` does. A look is good, and what is restored is renewed, where less than half of `drop` is
    lost. While an `EpsilonCurriculum` raises the radius, only `gap` counts. Every epoch ends with
    a look, so that what other callbacks save has been judged; list this callback before them.

    Adds to `logs`, as measured last: `guard_attacked_accuracy` (under the objective's own attack),
    `guard_robust_accuracy` (under `judge`) and `guard_interventions`, how often it went back in
    this `fit`. `interventions` holds the same in detail.

    Under a `DPOptimizer` the guard refuses unless you state `data_is_public=True`: what it decides
    depends on its examples, and no noise covers that. It then turns back weights and the inner
    optimizer's state, never the ledger, its count of steps or the noise, so that the steps which
    were undone stay paid for.

    Args:
        data: (x, y): some hundreds of examples that are not trained on: floating point array of
            shape (num_examples, ...) inside the attack's bounds, and class indices or one-hot rows.
        every: Batches from one look to the next, at least 1; None to look after epochs only.
        drop: The share of the best accuracy under `judge`, in (0, 1), whose loss is a collapse.
            Defaults to 0.2.
        gap: The difference of both accuracies, in (0, 1), that is a collapse by itself. Defaults to
            0.5; sound single-step training was seen to reach 0.3 where the ball is large.
        judge: The attack that tells the truth; None for 10 steps of `PGD` with the norm, radius and
            bounds of the objective's attack.
        relief: The attack to train on after a collapse; None for 4 such steps of `PGD`. On MNIST
            at radius 0.3 training on 2 steps collapsed as well, on 4 it did not.
        relief_batches: Batches to train on it, at least 1. Defaults to 500.
        relief_every: Trains on `relief` in one of so many batches even where nothing has
            collapsed, so that less does: at least 2, or None for never. Such batches cost what PGD
            of that many steps costs.
        batch_size: Examples per step of a look.
        from_logits: See `keras_secure.attacks.classification_logits`.
        data_is_public: Whether the examples need no privacy.
        verbose: 1 prints a line for every intervention, 0 none.

    Raises:
        InputError: If an argument cannot be used; in `fit`, if the model is no `SecureModel` or its
            objective trains on no attack.
        PrivacyError: In `fit`, under a `DPOptimizer`, unless the data is public.

    Example:

    >>> import keras_secure as ks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    >>> fast = ks.objectives.AdversarialTraining(ks.attacks.FGSM(0.1, random_start=True))
    >>> secure = ks.SecureModel(model, objective=fast)
    >>> secure.compile("sgd", "sparse_categorical_crossentropy")
    >>> x, y = np.random.default_rng(0).random((40, 4), "float32"), np.arange(40) % 2
    >>> guard = CatastrophicOverfittingGuard((x[32:], y[32:]))
    >>> history = secure.fit(x[:32], y[:32], verbose=0, callbacks=[guard])
    >>> history.history["guard_interventions"], guard.interventions
    ([0.0], [])

    Reference:
        Wong, Rice and Kolter 2020, arXiv 2001.03994, section 5.4 (the phenomenon); Li et al. 2020,
        arXiv 2006.03089, section 4 (training on PGD for a few batches after a collapse).
    """

    def __init__(
        self,
        data,
        *,
        every=None,
        drop=0.2,
        gap=0.5,
        judge=None,
        relief=None,
        relief_batches=500,
        relief_every=None,
        batch_size=256,
        from_logits=None,
        data_is_public=False,
        verbose=1,
    ):
        super().__init__()
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            raise InputError("data cannot be used: give held-out arrays as (x, y).")
        for name, value in (
            ("every", 1 if every is None else every),
            ("relief_batches", relief_batches),
        ):
            check_integer(name, value)
        if relief_every is not None:
            check_integer("relief_every", relief_every, 2)
        for name, value in (("drop", drop), ("gap", gap)):
            check_number(name, value, "(0, 1)")
        for name, attack in (("judge", judge), ("relief", relief)):
            if attack is not None and (not isinstance(attack, Attack) or attack.targeted):
                raise InputError(f"{name}={attack!r} cannot be used: give an untargeted Attack.")
        self.every, self.drop, self.gap = every, float(drop), float(gap)
        self.judge, self.relief, self.relief_batches = judge, relief, int(relief_batches)
        self.relief_every = relief_every
        self.batch_size, self.from_logits = batch_size, from_logits
        self.data_is_public, self.verbose = bool(data_is_public), verbose
        self.interventions: list[dict[str, Any]] = []
        self._data = data
        self._in_force: Any = None

    def on_train_begin(self, logs=None):
        """Checks what is trained, and keeps the state of the start."""
        own = self._objective_attack()
        if self.model.is_private and not self.data_is_public:
            raise PrivacyError(
                "CatastrophicOverfittingGuard steers training by its examples, and no noise covers "
                "what they decide. If they are public, state data_is_public=True; if not, train "
                "with PGD, which does not collapse."
            )
        x, y = self._data
        self._x, self._y = check_arrays(x, y, own.bounds, type(self).__name__)
        alike = {"norm": own.norm, "bounds": own.bounds, "seed": 0}
        self._judge = self.judge or PGD(own.epsilon, steps=10, **alike)
        self._own = _seeded(own)
        relief = self.relief or PGD(own.epsilon, steps=4, **alike)
        self._in_force, is_new = self.model.objective.relieve(relief)
        if is_new and self.model.train_function is not None:
            # What was traced without the variable does not read it.
            self.model.make_train_function(force=True)
        self.model(self._x[:1], training=False)
        self.model.optimizer.build(self.model.model.trainable_variables)
        self.interventions = []
        self._epoch = self._batch = self._since_look = 0
        self._relieved = 0
        self._length, self._calm = self.relief_batches, 0
        self._accuracies = self._best = (math.nan, 0.0)
        self._share = self._share_of_radius()
        self._keep()

    def on_epoch_begin(self, epoch, logs=None):
        """Counts batches of the epoch from its start."""
        self._epoch, self._batch = epoch, 0

    def on_train_batch_begin(self, batch, logs=None):
        """Lets the relief have its share of the batches."""
        if self.relief_every and not self._relieved:
            self._in_force.assign(batch % self.relief_every == 0)

    def on_train_batch_end(self, batch, logs=None):
        """Looks if it is time, and ends a relief."""
        passed = batch + 1 - self._batch
        self._batch = batch + 1
        self._since_look += passed
        if self._relieved:
            self._relieved = max(0, self._relieved - passed)
            if not self._relieved:
                self._in_force.assign(False)
        else:
            self._calm += passed
        if self.every is not None and self._since_look >= self.every:
            self._look()

    def on_epoch_end(self, epoch, logs=None):
        """Looks unless a look has just been taken, and writes to `logs`."""
        if self._since_look:
            self._look()
        if logs is not None:
            attacked, robust = self._accuracies
            logs["guard_attacked_accuracy"] = attacked
            logs["guard_robust_accuracy"] = robust
            logs["guard_interventions"] = float(len(self.interventions))

    def on_train_end(self, logs=None):
        """Gives the objective its own attack back."""
        self._in_force.assign(False)

    def _objective_attack(self):
        if not isinstance(self.model, SecureModel):
            raise InputError(
                "CatastrophicOverfittingGuard watches the attack of a SecureModel's objective, and "
                f"the model is a {type(self.model).__name__}."
            )
        parts = self.model.objective.parts()
        attacks = [part.attack for part in parts if hasattr(part, "attack")]
        if not attacks:
            raise InputError(
                f"{type(parts[0]).__name__} trains on no attack, so nothing can be overfitted to. "
                "Use AdversarialTraining or another objective with an attack."
            )
        return attacks[0]

    def _look(self):
        self._since_look = 0
        share = self._share_of_radius()
        if share != self._share:
            # What was reached on a smaller ball is no measure for this one.
            self._share, self._best = share, (math.nan, 0.0)
        attacked, robust = self._accuracies = self._measure(share)
        best_attacked, best = self._best
        fallen = (
            robust < (1 - self.drop) * best
            and self._differ(robust, best)
            # Where both fall training has lost its way, which going back would not mend.
            and attacked >= (1 - self.drop / 2) * best_attacked
        )
        if fallen or attacked - robust >= self.gap:
            self._step_in(attacked, robust)
        elif robust >= (1 - self.drop / 2) * best:
            if robust >= best:
                self._best = attacked, robust
            self._keep()

    def _differ(self, low, high):
        """Whether two shares of the examples differ by more than chance explains."""
        count = len(self._x)
        highest = proportion_interval(round(low * count), count)[1]
        return highest < proportion_interval(round(high * count), count)[0]

    def _share_of_radius(self):
        scale = self.model.objective.epsilon_scale
        return 1.0 if scale is None else float(keras.ops.convert_to_numpy(scale))

    def _measure(self, share):
        """Accuracy under the objective's own attack and under the judge, at the radius in force."""
        found = [
            attack.run(
                self.model,
                self._x,
                self._y,
                epsilon=share * attack.epsilon,
                batch_size=min(self.batch_size, len(self._x)),
                from_logits=self.from_logits,
                verbose=0,
            ).success
            for attack in (self._own, self._judge)
        ]
        # The judge is never weaker than what it is compared with.
        return float(1 - found[0].mean()), float(1 - (found[0] | found[1]).mean())

    def _step_in(self, attacked, robust):
        for variable, value in self._kept:
            variable.assign(value)
        # Collapsing again as soon after a relief as it lasted means that it was too short.
        if self.interventions and self._calm <= self._length:
            self._length *= 2
        self._relieved, self._calm = self._length, 0
        self._in_force.assign(True)
        told = {
            "epoch": self._epoch,
            "batch": self._batch,
            "attacked_accuracy": attacked,
            "robust_accuracy": robust,
            "relief_batches": self._length,
        }
        self.interventions.append(told)
        if self.verbose:
            print(
                f"\nEpoch {self._epoch + 1}, batch {self._batch}: catastrophic overfitting, "
                f"{attacked:.1%} right under the attack trained on, {robust:.1%} under "
                f"{type(self._judge).__name__}. Went back to the last good weights; training on a "
                f"stronger attack for {self._length} batches."
            )

    def _keep(self):
        """Notes what to go back to."""
        self._kept = [
            (variable, np.array(keras.ops.convert_to_numpy(variable)))
            for variable in _state(self.model)
        ]


def _seeded(attack):
    """The same attack with a seed of its own, so that looking does not change what is trained."""
    config = attack.get_config()
    if "seed" not in config:
        return attack
    return type(attack).from_config({**config, "seed": 0})


def _state(secure):
    """Weights, statistics and optimizer state, without what counts steps or privacy."""
    optimizer = secure.optimizer
    counts = []
    while True:
        counts.append(optimizer.iterations)
        inner = getattr(optimizer, "inner_optimizer", None)
        if inner is None:
            break
        # A loss scale is no part of what was learnt; a ledger must never be turned back.
        optimizer = inner
    skipped = {id(variable) for variable in counts}
    return [v for v in (*secure.model.weights, *optimizer.variables) if id(v) not in skipped]
