"""Can a robustness figure be believed?"""

import math

import numpy as np

from keras_secure.arguments import is_integer, is_number
from keras_secure.attacks.arrays import check_arrays, check_model
from keras_secure.attacks.attack import Attack
from keras_secure.attacks.labels import labelled_output
from keras_secure.attacks.projections import PROJECTIONS
from keras_secure.attacks.trust.agreement import probe_agreement
from keras_secure.attacks.trust.batch_mates import probe_batch_mates
from keras_secure.attacks.trust.black_box import probe_black_box
from keras_secure.attacks.trust.continuity import probe_continuity
from keras_secure.attacks.trust.data_range import probe_bounds
from keras_secure.attacks.trust.gradients import probe_gradients
from keras_secure.attacks.trust.movement import probe_movement
from keras_secure.attacks.trust.outputs import probe_outputs, probe_saturation
from keras_secure.attacks.trust.planted import probe_planted
from keras_secure.attacks.trust.randomness import probe_randomness
from keras_secure.attacks.trust.report import TrustReport
from keras_secure.attacks.trust.strength import probe_convergence, probe_single_step
from keras_secure.attacks.trust.subject import Subject
from keras_secure.attacks.trust.sweep import probe_full_range, probe_sweep
from keras_secure.errors import InputError

PROBES = (
    probe_bounds,
    probe_outputs,
    probe_saturation,
    probe_randomness,
    probe_batch_mates,
    probe_gradients,
    probe_agreement,
    probe_continuity,
    probe_planted,
    probe_sweep,
    probe_full_range,
    probe_movement,
    probe_single_step,
    probe_convergence,
    probe_black_box,
)
"""In the order of the report."""

FEWEST = 4


def trust_check(
    model, x, y, attack, *, epsilon=None, num_examples=48, from_logits=None, seed=0, probes=None
):
    """Checks whether what an attack says about a model's robustness can be believed.

    An attack that fails proves robustness only if it would have succeeded otherwise. The probes
    look for what makes attacks fail: gradients that are zero, not finite, or not those of the
    loss; jumps; randomness; answers that depend on the batch; outputs taken for what they are not;
    too little work; and planted adversarial examples that the attack does not find.

    Only examples that the model answers rightly take part, evenly chosen.

    Args:
        model: Classifier, called with `training=False`.
        x: Floating point array of shape (num_examples, ...), inside the attack's `bounds`.
        y: True classes: class indices or one-hot rows. For a model with several outputs, a
            dictionary with the labels of the one that is attacked.
        attack: The untargeted `Attack` whose figure is to be checked.
        epsilon: Radius that takes the place of the attack's own; needed if that has none.
        num_examples: At most how many examples take part. At least 4; the default decides shares
            of about a tenth.
        from_logits: See `classification_logits`.
        seed: Integer behind every draw of the probes.
        probes: Names of the probes to run, such as `["gradients", "planted"]`; None for all.

    Returns:
        A `TrustReport`.

    Raises:
        InputError: If the arguments cannot be used, or the model answers too few examples rightly.

    Example:

    >>> import keras
    >>> from keras_secure.attacks import FGSM
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x = np.random.default_rng(0).random((64, 4), "float32")
    >>> y = np.argmax(model.predict(x, verbose=0), axis=1)
    >>> report = trust_check(model, x, y, FGSM(0.1), probes=["outputs", "gradients"])
    >>> report.trusted
    True

    Reference:
        Carlini et al. 2019, "On evaluating adversarial robustness", arXiv 1902.06705; Athalye et
        al. 2018, arXiv 1802.00420, section 3.1; Tramèr et al. 2020, arXiv 2002.08347; Pintor et
        al. 2022, "Indicators of attack failure", arXiv 2106.09947; Zimmermann et al. 2022,
        "Increasing confidence in adversarial robustness evaluations", arXiv 2206.13991 (planted).
    """
    if not isinstance(attack, Attack) or attack.targeted:
        raise InputError(f"{attack!r} cannot be checked: give one untargeted Attack.")
    if attack.norm not in PROJECTIONS:
        raise InputError(
            f"{type(attack).__name__} is bounded by no norm, and the probes look into balls: check "
            "an attack such as PGD on the same model."
        )
    epsilon = getattr(attack, "epsilon", None) if epsilon is None else epsilon
    if not is_number(epsilon) or not 0 < epsilon < math.inf:
        raise InputError(
            f"epsilon={epsilon!r} cannot be used: the check needs the radius, a number > 0, at "
            "which "
            "robustness is claimed."
        )
    if not is_integer(num_examples) or num_examples < FEWEST:
        raise InputError(
            f"num_examples={num_examples!r} cannot be used: give an integer >= {FEWEST}."
        )
    chosen = _chosen(probes)
    output, y = labelled_output(y)
    check_model(model, "trust_check")
    x, labels = check_arrays(x, y, attack.bounds, "trust_check")
    # Twice as many as are wanted, evenly across the data, which may be sorted by class.
    rows = np.linspace(0, len(x) - 1, min(len(x), 2 * num_examples)).round().astype(int)
    if not model.built:
        model(x[:1], training=False)
    subject = Subject(
        model,
        x[rows],
        labels[rows],
        attack,
        epsilon=epsilon,
        from_logits=from_logits,
        output=output,
        seed=seed,
    )
    right = np.flatnonzero(~subject.fooled(subject.x, subject.labels))
    if len(right) < FEWEST:
        raise InputError(
            f"The model answers {len(right)} of {len(rows)} examples rightly; the check needs at "
            f"least {FEWEST}. Check the labels, and whether the outputs are logits."
        )
    keep = np.linspace(0, len(right) - 1, min(len(right), num_examples)).round().astype(int)
    subject.restricted(right[keep])
    return TrustReport(
        findings=tuple(probe(subject) for probe in chosen),
        attack={"class": type(attack).__name__, **attack.get_config()},
        epsilon=float(epsilon),
        num_examples=len(subject),
    )


def _chosen(names):
    known = {probe.__name__.removeprefix("probe_"): probe for probe in PROBES}
    if names is None:
        return list(PROBES)
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InputError(
            f"No probe is called {', '.join(unknown)}: use some of {', '.join(known)}."
        )
    return [probe for name, probe in known.items() if name in set(names)]
