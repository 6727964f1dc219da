"""What every callback of the package must do, whatever it measures or changes."""

import keras
import numpy as np


def small_model(**compile_options):
    """A plain compiled classifier of 8 x 8 images with its own weights every time."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=compile_options.pop("optimizer", None) or keras.optimizers.Adam(0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **compile_options,
    )
    return model


def run_callback_harness(
    make_callback, data, tmp_path, *, logs=(), measures_only=False, make_model=small_model
):
    """Runs one callback through everything that `fit` may do with it.

    Args:
        make_callback: Function without arguments that returns a new callback.
        data: Pair of arrays (x, y); 24 examples are enough.
        tmp_path: An empty folder.
        logs: Names that the callback adds to the epoch's logs.
        measures_only: Whether training must end with the weights it ends with without it.
        make_model: Function that takes `compile` options and returns a compiled model, the same
            one (weights included) every time.
    """
    x, y = data

    def fit(model, callbacks, **options):
        keras.utils.set_random_seed(5)
        return model.fit(
            x, y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks, **options
        ).history

    def check_logs(history):
        for name in logs:
            assert len(history[name]) == 2, f"{name} is not logged in every epoch"
            assert all(type(value) is float for value in history[name])
            assert np.isfinite(history[name]).all()
        assert np.isfinite(history["loss"]).all()

    callback = make_callback()
    assert isinstance(callback, keras.callbacks.Callback)
    model = make_model()
    optimizer, config = model.optimizer, model.get_config()
    optimizer_config = optimizer.get_config()
    csv = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    check_logs(fit(model, [callback, csv], validation_data=(x[:8], y[:8])))
    header = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    assert set(logs) <= set(header)

    # The model is the user's again: same objects, same configuration, saves and loads as ever.
    assert model.optimizer is optimizer
    assert model.optimizer.get_config() == optimizer_config
    assert model.get_config() == config
    assert int(optimizer.iterations) == 2 * -(-len(x) // 8)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    assert type(loaded.optimizer) is type(optimizer)
    for restored, own in zip(loaded.optimizer.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(restored), np.asarray(own))
    first = model.get_weights()

    # Where nothing is to be changed, nothing is changed.
    if measures_only:
        plain = make_model()
        fit(plain, [])
        for with_callback, without in zip(first, plain.get_weights(), strict=True):
            np.testing.assert_array_equal(with_callback, without)

    # Again with the same object, without it, and in the other loops.
    check_logs(fit(model, [callback]))
    assert not set(logs) & set(fit(model, []))
    assert model.optimizer is optimizer
    model.evaluate(x, y, verbose=0, callbacks=[callback])
    model.predict(x, verbose=0, callbacks=[callback])

    # Compiled by XLA, several steps at once, eagerly.
    for options in ({"jit_compile": True}, {"steps_per_execution": 2}, {"run_eagerly": True}):
        check_logs(fit(make_model(**options), [make_callback()]))
