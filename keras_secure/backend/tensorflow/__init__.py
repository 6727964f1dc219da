"""The TensorFlow implementation of `keras_secure.backend.contract`."""

from keras_secure.backend.tensorflow.chacha20 import secure_normal
from keras_secure.backend.tensorflow.conversion import litert_model, onnx_model
from keras_secure.backend.tensorflow.convolutions import convolution_by_inputs
from keras_secure.backend.tensorflow.data import batch_stream
from keras_secure.backend.tensorflow.distribution import (
    all_reduce_sum,
    check_distribution,
    processor_replicas,
    replica_count,
)
from keras_secure.backend.tensorflow.evenness import is_even
from keras_secure.backend.tensorflow.export import (
    framework_version,
    load_served_model,
    save_served_model,
)
from keras_secure.backend.tensorflow.gradients import (
    einsum,
    gradients,
    input_gradient,
    is_outer_tensor,
    per_example_map,
    pulled_back,
)
from keras_secure.backend.tensorflow.graph import (
    compiled,
    fused,
    fused_call,
    has_accelerator,
    named_constant,
    sequential_loop,
    state_variable,
    trace,
)
from keras_secure.backend.tensorflow.host import host_array
from keras_secure.backend.tensorflow.lookups import first_places, row_counts
from keras_secure.backend.tensorflow.noise import (
    normal,
    portable_normal,
    unforeseen_key,
    uniform,
)
from keras_secure.backend.tensorflow.optimization_toolkit import (
    toolkit_pruning,
    toolkit_schedules,
)
from keras_secure.backend.tensorflow.random_access import example_reader
from keras_secure.backend.tensorflow.saved_graph import read_served_model
from keras_secure.backend.tensorflow.warmup import write_warmup
from keras_secure.backend.tensorflow.windows import extract_shifts, extract_windows

__all__ = [
    "all_reduce_sum",
    "batch_stream",
    "check_distribution",
    "compiled",
    "convolution_by_inputs",
    "einsum",
    "example_reader",
    "extract_shifts",
    "extract_windows",
    "first_places",
    "framework_version",
    "fused",
    "fused_call",
    "gradients",
    "has_accelerator",
    "host_array",
    "input_gradient",
    "is_even",
    "is_outer_tensor",
    "litert_model",
    "load_served_model",
    "named_constant",
    "normal",
    "onnx_model",
    "per_example_map",
    "portable_normal",
    "processor_replicas",
    "pulled_back",
    "read_served_model",
    "replica_count",
    "row_counts",
    "save_served_model",
    "secure_normal",
    "sequential_loop",
    "state_variable",
    "toolkit_pruning",
    "toolkit_schedules",
    "trace",
    "unforeseen_key",
    "uniform",
    "write_warmup",
]
