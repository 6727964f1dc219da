import keras
import numpy as np
import pytest

from keras_secure.attacks import FGSM, PGD, evaluate
from keras_secure.audit import AuditReport, robustness_section
from keras_secure.audit.render_markdown import render_markdown
from keras_secure.errors import InputError


@pytest.fixture(scope="module")
def measured():
    """A linear model whose margin is known: right while the change stays below 0.2."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[-1.0, 1.0]]), np.array([0.5, -0.5])])
    x, y = np.full((20, 1), 0.7, "float32"), np.ones(20, int)
    attack = PGD(epsilon=0.3, steps=3, restarts=2)
    return model, x, y, evaluate(model, x, y, attack, epsilons=[0.1, 0.3], verbose=0)


def test_curves_start_clean_and_are_what_was_measured(measured):
    section = robustness_section({"plain": measured[3]})
    curve = section["curves"]["plain"]
    assert [point["epsilon"] for point in curve] == [0.0, 0.1, 0.3]
    assert [point["accuracy"] for point in curve] == [1.0, 1.0, 0.0]
    assert curve[0]["low"] < 1.0 == curve[0]["high"]
    assert section["num_examples"] == 20
    assert section["norm"] == "linf"
    text = render_markdown(AuditReport(robustness=section))
    assert "3 steps, 2 restarts" in text
    assert "falls from 100.0% to 0.0%" in text


def test_models_that_were_attacked_differently_are_not_compared(measured):
    model, x, y, report = measured
    weaker = evaluate(model, x, y, FGSM(0.3), epsilons=[0.1, 0.3], verbose=0)
    fewer = evaluate(
        model, x[:5], y[:5], PGD(epsilon=0.3, steps=3, restarts=2), epsilons=[0.3], verbose=0
    )
    for other in (weaker, fewer):
        with pytest.raises(InputError, match="attacked differently"):
            robustness_section({"plain": report, "robust": other})
    with pytest.raises(InputError, match="No model"):
        robustness_section({})
