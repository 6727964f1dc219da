"""Models with several outputs: their compiled loss is what adversarial training raises."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_secure as ks
from keras_secure.errors import InputError
from keras_secure.objectives import AdversarialTraining, PerExampleLoss

RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.7, (24, 6)).astype("float32")
Y = {"kind": RNG.integers(0, 3, 24).astype("int32"), "size": RNG.normal(size=(24, 2))}
LOSS = {
    "kind": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "size": keras.losses.MeanSquaredError(),
}
WEIGHTS = {"kind": 0.3, "size": 2.0}


def network():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    hidden = layers.Dense(5, "tanh")(inputs)
    outputs = {
        "kind": layers.Dense(3, name="kind")(hidden),
        "size": layers.Dense(2, name="size")(hidden),
    }
    return keras.Model(inputs, outputs)


def losses(model, x):
    return np.asarray(PerExampleLoss(LOSS, WEIGHTS, ["kind", "size"])(Y, model(x)))


@pytest.mark.parametrize("attack", [ks.attacks.FGSM(0.05), ks.attacks.PGD(0.05, steps=5, seed=0)])
def test_the_attack_raises_the_loss_of_all_outputs(attack):
    model = network()
    loss = PerExampleLoss(LOSS, WEIGHTS, ["kind", "size"])
    x_adv = AdversarialTraining(attack).perturb(model, X, Y, loss)
    assert np.abs(np.asarray(x_adv) - X).max() == pytest.approx(0.05, rel=1e-4)
    assert (losses(model, x_adv) > losses(model, X)).all()
    # Uniform noise of that size raises about half of them.
    noise = X + 0.05 * np.sign(RNG.normal(size=X.shape)).astype("float32")
    assert (losses(model, noise) < losses(model, x_adv)).mean() > 0.95


def test_it_trains_through_fit():
    model = network()
    secure = ks.SecureModel(model, objective=AdversarialTraining(ks.attacks.FGSM(0.05)))
    secure.compile(keras.optimizers.Adam(0.05), LOSS, WEIGHTS, jit_compile=False)
    history = secure.fit(X, Y, batch_size=8, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert {"kind_loss", "size_loss"} <= set(history)


def test_a_targeted_attack_is_refused():
    objective = AdversarialTraining(ks.attacks.FGSM(0.05, targeted=True))
    loss = PerExampleLoss(LOSS, WEIGHTS, ["kind", "size"])
    with pytest.raises(InputError, match=r"2 outputs.*untargeted"):
        objective.perturb(network(), X, Y, loss)
