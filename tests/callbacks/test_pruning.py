"""Masks hold after every single update, whatever trains the model."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness, small_model

import keras_secure as ks
from keras_secure.callbacks import HoldZeros, Pruning
from keras_secure.compression import ConstantSparsity, PolynomialDecay, prune, sparsity
from keras_secure.compression.masks import follows_blocks
from keras_secure.errors import InputError

DECAY = PolynomialDecay(0.0, 0.75, begin_step=1, end_step=4, frequency=1)


class Watch(keras.callbacks.Callback):
    """Reads the share of zeros of the first kernel after every execution."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        inner = getattr(self.model, "model", self.model)
        self.seen.append(float((np.asarray(inner.layers[1].kernel) == 0).mean()))


def data(count=24):
    rng = np.random.default_rng(0)
    return rng.random((count, 8, 8, 1), "float32"), np.arange(count) % 10


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Pruning(schedule=DECAY), id="Pruning"),
        pytest.param(HoldZeros, id="HoldZeros", marks=pytest.mark.slow),
    ],
)
def test_callback_harness(make, tmp_path):
    def start(**options):
        model = small_model(**options)
        prune(model, 0.25)
        return model

    run_callback_harness(make, data(), tmp_path, logs=["sparsity"], make_model=start)


def test_the_schedule_is_followed_step_by_step():
    model, watch = small_model(), Watch()
    x, y = data(64)
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[Pruning(schedule=DECAY), watch])
    size = 64 * 8
    expected = [round(size * (1 - float(DECAY(step)[1]))) for step in range(1, 9)]
    assert [round(size * (1 - share)) for share in watch.seen] == expected
    assert watch.seen[-1] == 0.75


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"jit_compile": True}, id="xla"),
        pytest.param({"steps_per_execution": 4}, id="several steps"),
        *(
            pytest.param({"optimizer": optimizer}, id=name, marks=pytest.mark.slow)
            for name, optimizer in (
                ("moving average", keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True)),
                ("loss scale", keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01))),
                ("accumulation", keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)),
            )
        ),
    ],
)
def test_it_holds_in_every_kind_of_step(options):
    model, watch = small_model(**options), Watch()
    x, y = data(64)
    callbacks = [Pruning(schedule=ConstantSparsity(0.75, 0, frequency=3)), watch]
    before = np.asarray(model.layers[1].kernel)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
    assert set(watch.seen) == {0.75}
    kernel = np.asarray(model.layers[1].kernel)
    assert (kernel == 0).mean() == 0.75
    assert (kernel[kernel != 0] != before[kernel != 0]).any(), "nothing was trained"
    assert model.layers[1].kernel.constraint is None


def test_masks_are_chosen_anew_and_not_only_once():
    """Two of four weights that are small at first have large gradients, and must stay."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(np.float32([[1.0], [0.9], [0.1], [0.05]]))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = x @ np.float32([[0.0], [0.0], [2.0], [3.0]])
    schedule = PolynomialDecay(0.0, 0.5, begin_step=30, end_step=40, frequency=5)
    pruning = Pruning(pattern="2:4", schedule=schedule)
    model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[pruning])
    kernel = np.asarray(model.layers[0].kernel)[:, 0]
    np.testing.assert_allclose(kernel, [0, 0, 2, 3], atol=0.01)


def test_two_of_four_along_the_input_channels():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 6)),
            keras.layers.Conv2D(5, 3, name="conv"),
            keras.layers.Conv2DTranspose(7, 2, name="transposed"),
            keras.layers.DepthwiseConv2D(2, name="depthwise"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="top"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((16, 6, 6, 6), "float32")
    model.fit(x, np.arange(16) % 10, 4, verbose=0, callbacks=[Pruning(pattern="2:4")])
    for name, axis in (("conv", 2), ("transposed", 3), ("top", 0)):
        assert follows_blocks(np.asarray(model.get_layer(name).kernel), 2, 4, axis), name
    assert not follows_blocks(np.asarray(model.get_layer("depthwise").kernel), 0, 4, 2)
    # Of six channels two of four and two of two stay; of five two of four and one of one.
    expected = [1 / 3, 2 / 5, 0.0, 0.5]
    np.testing.assert_allclose(list(sparsity(model).values()), expected, atol=0.01)


@pytest.mark.parametrize("kind", ["adversarial", "private"])
def test_it_holds_in_secure_training(kind):
    model, watch = small_model(), Watch()
    if kind == "adversarial":
        attack = ks.attacks.FGSM(0.1)
        secure = ks.SecureModel(model, objective=ks.objectives.AdversarialTraining(attack))
        optimizer = keras.optimizers.Adam(0.01)
    else:
        secure = ks.SecureModel(model)
        optimizer = ks.optimizers.DPOptimizer(
            keras.optimizers.Adam(0.01), l2_norm_clip=1.0, noise_multiplier=1.0
        )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss)
    x, y = data(64)
    history = secure.fit(
        x, y, batch_size=16, epochs=2, verbose=0, callbacks=[Pruning(schedule=DECAY), watch]
    )
    assert watch.seen[-1] == history.history["sparsity"][-1] == 0.75
    assert set(sparsity(model).values()) == {0.75}
    np.testing.assert_array_equal(model.predict(x, verbose=0), secure.predict(x, verbose=0))


def test_pruned_then_quantized_or_clustered_keeps_zeros():
    model = small_model()
    prune(model, 0.5)
    zeros = np.asarray(model.layers[1].kernel) == 0
    x, y = data()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for make in (ks.compression.quantize_aware, ks.compression.cluster_aware):
        trained = make(model, 4)
        trained.compile(keras.optimizers.Adam(0.01), loss)
        trained.fit(x, y, 8, epochs=2, verbose=0, callbacks=[HoldZeros()])
        stripped = ks.compression.strip(trained)
        kernel = np.asarray(stripped.layers[1].kernel)
        assert (kernel[zeros] == 0).all()
        assert not np.array_equal(kernel, np.asarray(model.layers[1].kernel))
        assert len(np.unique(kernel)) <= 4 if make is ks.compression.cluster_aware else True


def test_a_watermark_is_kept_through_pruning_and_quantization():
    from keras_secure.watermark import SpreadSpectrum, attach, verify

    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(64), keras.layers.Dense(10)])
    mark = SpreadSpectrum("a secret", num_bits=64)
    attach(model, mark)
    x = np.random.default_rng(0).random((64, 64), "float32")
    y = np.arange(64) % 10
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, batch_size=8, epochs=6, verbose=0, callbacks=[Pruning(0.5)])
    trained = ks.compression.quantize_aware(model, 4)
    assert trained.losses, "the mark was lost when the model was rebuilt"
    trained.compile(keras.optimizers.Adam(0.01), loss)
    trained.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[HoldZeros()])
    stripped = ks.compression.strip(trained)
    assert verify(stripped, mark).bit_errors == 0
    assert (np.asarray(stripped.layers[0].kernel) == 0).mean() >= 0.5


def test_without_the_callback_a_later_fit_is_free_again():
    model = small_model()
    x, y = data()
    model.fit(x, y, verbose=0, callbacks=[Pruning(schedule=ConstantSparsity(0.5, 0))])
    assert set(sparsity(model).values()) == {0.5}
    model.fit(x, y, verbose=0)
    assert max(sparsity(model).values()) < 0.5


class Break(keras.callbacks.Callback):
    """Ends a fit as a fault would."""

    def on_epoch_end(self, epoch, logs=None):
        raise RuntimeError("broken off")


def test_a_fit_that_broke_off_leaves_nothing_and_the_next_goes_on():
    model = small_model()
    x, y = data(64)
    with pytest.raises(RuntimeError, match="broken off"):
        model.fit(x, y, 8, epochs=4, verbose=0, callbacks=[Pruning(0.75), Break()])
    reached = sparsity(model)
    assert 0 < min(reached.values()) < 0.75
    watch = Watch()
    model.fit(
        x, y, 8, initial_epoch=2, epochs=4, verbose=0, callbacks=[HoldZeros(), Pruning(0.75), watch]
    )
    assert watch.seen == sorted(watch.seen)
    assert watch.seen[0] >= next(iter(reached.values()))
    assert set(sparsity(model).values()) == {0.75}
    assert model.layers[1].kernel.constraint is None


def test_a_kernel_that_begins_at_zero_learns():
    model = small_model()
    model.layers[2].kernel.assign(np.zeros((8, 10)))
    x, y = data()
    model.fit(x, y, 8, verbose=0, callbacks=[HoldZeros()])
    assert (np.asarray(model.layers[2].kernel) != 0).any()


@pytest.mark.skipif(
    # Importing the toolkit here would do to this process what must not be done.
    importlib.util.find_spec("tensorflow_model_optimization") is None,
    reason="the extra tfmot is not installed",
)
def test_the_toolkits_engine_chooses_the_same_masks_and_changes_no_keras():
    script = """
import json, os, sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from harness_callbacks import small_model
from keras_secure import backend
from keras_secure.callbacks import Pruning
x = np.random.default_rng(0).random((24, 8, 8, 1), "float32")
decay = backend.toolkit_schedules().PolynomialDecay(0.0, 0.75, 1, 4, frequency=1)
kernels = []
for engine in ("tfmot", "native"):
    model = small_model(jit_compile=engine == "tfmot")
    keras.utils.set_random_seed(1)
    pruning = Pruning(schedule=decay, engine=engine)
    model.fit(x, np.arange(24) % 10, 4, verbose=0, callbacks=[pruning])
    kernels.append(np.asarray(model.layers[1].kernel))
import tensorflow as tf
print(json.dumps({
    "module": tf.keras.Model is keras.Model,
    "version": tf.keras.__version__,
    "losses": tf.losses.MeanSquaredError is keras.losses.MeanSquaredError,
    "variable": os.environ.get("TF_USE_LEGACY_KERAS"),
    "loaded": "tensorflow_model_optimization" in sys.modules,
    "zeros": [float((k == 0).mean()) for k in kernels],
    "same": float(((kernels[0] == 0) == (kernels[1] == 0)).mean()),
}))
"""
    harness = str(Path(__file__).parents[1] / "harness")
    output = subprocess.run(
        [sys.executable, "-c", script, harness], capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["loaded"]
    assert found["module"]
    assert found["losses"]
    assert found["version"] == keras.__version__
    assert found["variable"] is None
    assert found["zeros"] == [0.75, 0.75]
    assert found["same"] > 0.99


def test_what_cannot_be_done_is_refused():
    for arguments in (
        {},
        {"sparsity": 1.0},
        {"sparsity": 0.5, "schedule": DECAY},
        {"schedule": 0.5},
        {"sparsity": 0.5, "pattern": "2:4"},
        {"pattern": "2:4", "engine": "tfmot"},
        {"sparsity": 0.5, "engine": "other"},
    ):
        with pytest.raises(InputError):
            Pruning(**arguments)
    model = small_model()
    model.layers[1].trainable = False
    x, y = data()
    with pytest.raises(InputError, match="frozen"):
        model.fit(x, y, verbose=0, callbacks=[Pruning(0.5, layers=model.layers[1].name)])
    with pytest.raises(InputError, match="unstructured"):
        prune(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]), pattern="2:4")


def test_a_missing_toolkit_is_told_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    for name in [n for n in sys.modules if n.startswith("tensorflow_model_optimization.")]:
        monkeypatch.delitem(sys.modules, name)
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    with pytest.raises(InputError, match=r"keras-secure\[tfmot\]"):
        Pruning(0.5, engine="tfmot")
    assert os.environ.get("TF_USE_LEGACY_KERAS") == before
