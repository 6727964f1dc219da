"""Configs that make Keras reserve or compute what no stored weight asks for, in less plain ways."""

from dataclasses import replace

from scan_corpus.config_kinds import called, config_kind
from scan_corpus.keras_archives import dense, input_layer, layer, sequential, write_model
from scan_corpus.kinds import kind

LOAD = "memory, on load in every Keras"


@config_kind("budget-separable", "resources", LOAD)
def _separable(variant):
    sizes = {"filters": 2**34, "kernel_size": [1, 1], "depth_multiplier": 1}
    wide = {"kernel_size": [2**16, 2**16], "depth_multiplier": 1}
    return variant.pick(
        (
            layer("SeparableConv2D", {"name": variant.name} | sizes),
            layer("DepthwiseConv2D", {"name": variant.name} | wide),
            layer("ConvLSTM2D", {"name": variant.name, "filters": 2**17, "kernel_size": [3, 3]}),
        ),
        "layer",
    )


@config_kind("budget-low-rank", "resources", LOAD)
def _low_rank(variant):
    return dense(variant.name, lora_rank=2**34)


@config_kind("budget-spectrogram", "resources", LOAD)
def _spectrogram(variant):
    sizes = {"frame_length": 2**20, "fft_length": 2**20, "frame_step": 1}
    return layer("STFTSpectrogram", {"name": variant.name} | sizes)


def chain(variant, shape, layers):
    """A model of these layers alone, none of which says what it was built for."""
    layers = [{key: one[key] for key in one if key != "build_config"} for one in layers]
    return sequential([input_layer(shape=shape), *layers])


@kind("budget-unsaid-input", "config", "resources", LOAD, "", ("outer", "container"))
def _unsaid_input(folder, variant):
    """Each layer alone is small; their product is not, and nobody says so."""
    wide, many = dense("wide", units=10**6), dense("many", units=10**6)
    layers, shape = variant.pick(
        (
            ([dense("first", units=10**4)], (None, 10**8)),
            ([wide, layer("Activation", {"name": "a", "activation": "relu"}), many], (None, 4)),
            ([layer("UpSampling2D", {"name": "up", "size": [4096, 4096]}), flatten(), dense("d")],
             (None, 8, 8, 4)),
            ([layer("TimeDistributed", {"name": "t", "layer": wide})], (None, 3, 10**6)),
            ([layer("LSTM", {"name": "l", "units": 10**3, "stateful": True})], (10**9, 3, 4)),
        ),
        "layers",
    )  # fmt: skip
    return write_model(folder, chain(variant, shape, layers), replace(variant, nesting=()))


def flatten():
    return layer("Flatten", {"name": "flatten"})


@kind("budget-lied-input", "config", "resources", LOAD, "", ("outer", "container"))
def _lied_input(folder, variant):
    """A layer is said to be built for four values, and the one before it gives a million."""
    layers = [input_layer(), dense("wide", units=10**6), dense("many", units=10**6)]
    return write_model(folder, sequential(layers), replace(variant, nesting=()))


@config_kind("value-type-bomb", "resources", LOAD)
def _value_type(variant):
    """A type of which a single value takes gigabytes."""
    dtype = variant.pick(("S2000000000", "U500000000", "V2000000000", "500000000f4"), "dtype")
    array = {"class_name": "__numpy__", "config": {"value": ["a", "b"], "dtype": dtype}}
    history = {"shape": [None, 4], "dtype": "float32", "keras_history": ["first", 0, 0]}
    tensor = {"class_name": "__keras_tensor__", "config": history}
    one = layer("Add", {"name": variant.name})
    return one | {"inbound_nodes": [{"args": [[tensor, array]], "kwargs": {}}]}


@config_kind("call-on-load", "resources", LOAD)
def _call_on_load(variant):
    """Operations on values of the file's own are made while a functional model is loaded."""
    values = {"class_name": "__tensor__", "config": {"value": [[1.0, 2.0]], "dtype": "float32"}}
    one = variant.pick(
        (
            layer("Repeat", {"repeats": 10**11, "axis": 0}, module="keras.src.ops.numpy"),
            layer("RepeatVector", {"n": 10**11}),
            layer("Full", {"shape": [10**6, 10**6]}, module="keras.src.ops.numpy"),
            layer("Tile", {"repeats": [10**6, 10**6]}, module="keras.src.ops.numpy"),
        ),
        "layer",
    )
    one["config"]["name"] = variant.name
    return called(one, []) | {"inbound_nodes": [{"args": [values], "kwargs": {}}]}
