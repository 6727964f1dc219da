"""What every layer of the package must do, whatever it computes."""

import keras
import numpy as np

from keras_secure import backend


def run_layer_harness(
    layer_cls,
    init_kwargs,
    input_data,
    tmp_path,
    *,
    call_kwargs=None,
    random=False,
    float16_dtype="float16",
    atol=0.0,
    has_weights=False,
):
    """Runs one layer through everything that Keras may do with it.

    Args:
        layer_cls: The layer class.
        init_kwargs: The arguments to build it with; JSON values only.
        input_data: Numpy array of shape (batch, ...), batch at least 2.
        tmp_path: An empty folder.
        call_kwargs: Further arguments of `call`, such as `training`.
        random: Whether two calls differ; then only shapes, dtypes and finiteness are compared.
        float16_dtype: The output dtype expected under the `mixed_float16` policy.
        atol: Absolute tolerance between eager, graph, compiled, saved and exported results.
        has_weights: Whether the layer is trained; otherwise it must have nothing to train.
    """
    call_kwargs = call_kwargs or {}

    def check_same(actual, expected):
        actual, expected = np.asarray(actual), np.asarray(expected)
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        if random:
            assert np.isfinite(actual).all()
        else:
            np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)

    layer = layer_cls(**init_kwargs, name="under_test")
    x = keras.ops.convert_to_tensor(input_data)

    # Serialization: the config holds every argument, and only what its own class can read back.
    config = layer.get_config()
    assert set(init_kwargs) <= set(config), "an argument is missing from get_config"
    clone = layer_cls.from_config(config)
    assert clone.get_config() == config
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(revived) is layer_cls
    assert keras.saving.get_registered_name(layer_cls) == f"keras_secure>{layer_cls.__name__}"

    # Eager, build, symbolic, graph and compiled calls agree.
    clone.build(x.shape)
    assert clone.built
    expected = layer(x, **call_kwargs)
    assert layer.built
    assert layer.supports_masking
    assert bool(layer.trainable_variables) == has_weights
    clone.set_weights(layer.get_weights())
    check_same(clone(x, **call_kwargs), expected)
    symbolic = layer(keras.KerasTensor((None, *x.shape[1:]), dtype=x.dtype), **call_kwargs)
    assert symbolic.shape == (None, *expected.shape[1:])
    assert symbolic.dtype == keras.backend.standardize_dtype(expected.dtype)
    assert layer.compute_output_shape(x.shape) == tuple(expected.shape)
    for jit_compile in (False, True):
        graph = backend.compiled(lambda t: layer(t, **call_kwargs), jit_compile=jit_compile)
        check_same(graph(x), expected)

    # Any number of rows, none included (which convolutions of TensorFlow's cannot take); a numpy
    # array is as good as a tensor.
    for rows in (1,) if has_weights else (0, 1):
        assert layer(x[:rows], **call_kwargs).shape == (rows, *expected.shape[1:])
    check_same(layer(input_data, **call_kwargs), expected)

    # Half precision.
    half = layer_cls(**init_kwargs, dtype="mixed_float16")
    result = half(x, **call_kwargs)
    assert keras.backend.standardize_dtype(result.dtype) == float16_dtype
    assert np.isfinite(np.asarray(result)).all()
    half_symbolic = half(keras.KerasTensor((None, *x.shape[1:]), dtype=x.dtype), **call_kwargs)
    assert half_symbolic.dtype == float16_dtype

    # In a model: predict, save, load without custom objects, export.
    inputs = keras.Input(x.shape[1:], dtype=x.dtype)
    model = keras.Model(inputs, layer_cls(**init_kwargs)(inputs))
    served = model.predict(input_data, batch_size=2, verbose=0)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert type(loaded.layers[-1]) is layer_cls
    check_same(loaded.predict(input_data, verbose=0), served)
    model.export(tmp_path / "exported", verbose=False)
    artifact = keras.layers.TFSMLayer(tmp_path / "exported", call_endpoint="serve")
    check_same(artifact(x), served)
    assert artifact(x[:1]).shape[0] == 1

    # In a fit, behind it and in front of it a layer with weights; compiled by XLA.
    if np.issubdtype(input_data.dtype, np.floating):
        trained = keras.Sequential(
            [
                keras.Input(x.shape[1:]),
                keras.layers.Dense(x.shape[-1]),
                layer_cls(**init_kwargs),
                keras.layers.Flatten(),
                keras.layers.Dense(1),
            ]
        )
        trained.compile(optimizer="sgd", loss="mse", jit_compile=True)
        targets = np.zeros((len(input_data), 1), "float32")
        # The layers in front have to see numbers, whatever the layer itself can bear.
        finite = np.nan_to_num(input_data)
        history = trained.fit(finite, targets, epochs=1, batch_size=len(x), verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert all(np.isfinite(weight).all() for weight in trained.get_weights())
