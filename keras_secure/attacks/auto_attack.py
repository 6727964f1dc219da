"""AutoAttack: different attacks in turn, each on the examples that the others left."""

import copy
import dataclasses
import random

from keras_secure.attacks.apgd import APGD
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.expectation import Expectation
from keras_secure.attacks.fab import FAB
from keras_secure.attacks.journal import Journal, fingerprint_of
from keras_secure.attacks.labels import labelled_output
from keras_secure.attacks.square import Square
from keras_secure.errors import InputError
from keras_secure.registration import component

SAMPLES = 20
"""Passes that the version for randomized models averages over."""


@component("attacks")
class AutoAttack(Attack):
    """Runs different attacks in turn, each on the examples that withstood those before.

    The standard for comparing robust models: white-box attacks on two losses and on the distance,
    and a black-box one, none with a parameter to tune. Examples that are fooled are dropped at
    once, between the attacks and inside them.

    - `"standard"`: APGD on cross-entropy, targeted APGD on DLR, targeted FAB, Square.
    - `"plus"`: APGD on cross-entropy and on DLR and FAB, 5 restarts each; Square; targeted APGD on
      DLR; targeted FAB.
    - `"rand"`: APGD on cross-entropy and on DLR, of the `Expectation` over 20 passes.

    Gradient attacks take 100 steps, Square 5,000 queries, targeted attacks go for the 9 most likely
    wrong classes, or for as many as there are. In l1, the standard version gives APGD on
    cross-entropy 5 restarts and targeted APGD 5 classes. What the losses are for two and three
    classes, `APGD` says.

    Args:
        epsilon: Largest distance from the input, in the units of the input. At least 0.
        norm: `"linf"`, `"l2"` or `"l1"`.
        version: `"standard"`, `"plus"`, or `"rand"` for randomized models.
        bounds: Smallest and largest value that an input may have.
        targeted: Whether the labels given are the classes to reach. Attacks that choose the classes
            themselves are then replaced by APGD on DLR, or left out.
        seed: Integer that makes the attacks repeatable, or None.

    Raises:
        InputError: If an argument cannot be used.

    Example:

    >>> import keras, numpy as np
    >>> model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(3)])
    >>> x = np.full((2, 20), 0.5, "float32")
    >>> y = np.argmax(model(x), axis=1)
    >>> result = AutoAttack(1.0, seed=0).run(model, x, y, verbose=0)
    >>> bool(result.success.all())
    True

    Reference:
        Croce & Hein 2020, arXiv 2003.01690, section 6 and table 2. l1: Croce & Hein 2021,
        arXiv 2103.01208, section 6.
    """

    def __init__(
        self,
        epsilon,
        *,
        norm="linf",
        version="standard",
        bounds=(0.0, 1.0),
        targeted=False,
        seed=None,
    ):
        super().__init__(epsilon, norm=norm, bounds=bounds, targeted=targeted, seed=seed)
        if version not in ("standard", "plus", "rand"):
            raise InputError(f"version={version!r} is not known: use 'standard', 'plus' or 'rand'.")
        self.version = version

    def members(self):
        """Returns the attacks in the order in which they run."""
        shared = {"norm": self.norm, "bounds": self.bounds}
        aimed = {**shared, "targeted": self.targeted}
        if self.version == "rand":
            return [APGD(self.epsilon, loss=loss, **aimed) for loss in ("ce", "dlr")]
        several = 5 if self.version == "plus" or self.norm == "l1" else 1
        on_entropy = APGD(self.epsilon, restarts=several, **aimed)
        on_ratio = APGD(self.epsilon, loss="dlr", restarts=several, **aimed)
        square = Square(self.epsilon, **aimed)
        if self.targeted:
            return [on_entropy, on_ratio, square]
        fab_on_targets = FAB(self.epsilon, num_targets=9, **shared)
        targets = 5 if self.version == "standard" and self.norm == "l1" else 9
        on_targets = APGD(self.epsilon, loss="dlr", num_targets=targets, **shared)
        if self.version == "standard":
            return [on_entropy, on_targets, fab_on_targets, square]
        fab = FAB(self.epsilon, restarts=several, **shared)
        return [on_entropy, on_ratio, fab, square, on_targets, fab_on_targets]

    def run(
        self,
        model,
        x,
        y,
        *,
        batch_size=128,
        epsilon=None,
        from_logits=None,
        verbose="auto",
        checkpoint=None,
    ):
        """Attacks whole arrays; see `Attack.run`.

        Args:
            model: See `Attack.run`.
            x: See `Attack.run`.
            y: See `Attack.run`.
            batch_size: See `Attack.run`.
            epsilon: See `Attack.run`.
            from_logits: See `Attack.run`.
            verbose: See `Attack.run`.
            checkpoint: Path of a file in which the progress is kept, replaced as a whole after
                every start of every member; or None. If it is there, the search goes on where it
                was written, to the very result that it would have had without interruption. A file
                that belongs to other data, weights or arguments is refused. It stays when the
                search has ended; a further call then gives the result at once.

        Returns:
            An `AttackResult`. For randomized models a query is one pass, and success is that of the
            average answer.

        Raises:
            InputError: As `Attack.run`; or if the checkpoint is of another search.
        """
        attack = self
        if checkpoint is not None:
            attack = copy.copy(self)
            written = {**self.get_config(), "epsilon": self.epsilon if epsilon is None else epsilon}
            fingerprint = fingerprint_of(
                model, x, y, attack=written, from_logits=from_logits, batch_size=batch_size
            )
            seed = random.getrandbits(63) if self.seed is None else self.seed
            journal = Journal(checkpoint, fingerprint, seed)
            attack.journal, attack.seed = journal, journal.seed
        options = {"batch_size": batch_size, "epsilon": epsilon, "verbose": verbose}
        if self.version != "rand":
            return super(AutoAttack, attack).run(model, x, y, from_logits=from_logits, **options)
        output, y = labelled_output(y)
        expected = Expectation(model, SAMPLES, from_logits=from_logits, output=output)
        result = super(AutoAttack, attack).run(expected, x, y, **options)
        return dataclasses.replace(result, queries=result.queries * SAMPLES)

    def starts(self, num_classes):
        """See `Attack`: those of all members."""
        return sum(member.starts(num_classes) for member in self.members())

    def seek(self, search, rows, restart):
        """See `Attack`: one start of the member whose turn it is."""
        for number, member in enumerate(self.members(), 1):
            starts = member.starts(search.num_classes)
            if restart < starts:
                return member.seek(search.of(member, number), rows, restart)
            restart -= starts
        raise IndexError("There is no member left.")

    def get_config(self):
        """Returns the arguments that rebuild this attack."""
        return {**super().get_config(), "version": self.version}
