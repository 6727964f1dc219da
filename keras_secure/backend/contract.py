"""What a backend offers to the rooms above it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol


class Backend(Protocol):
    """The functions each folder `keras_secure/backend/<framework>/` implements.

    Everything here is traceable (usable inside a compiled training step) unless it says otherwise.
    """

    @staticmethod
    def all_reduce_sum(values: Sequence[Any]) -> list[Any]:
        """Sums each tensor over the replicas of the running step; identity with one replica."""

    @staticmethod
    def batch_stream(make: Callable[[], Iterator[Any]], example: Any, length: int) -> Any:
        """Streams host batches of static shape into `fit` (not traceable).

        `make()` returns, once for every epoch, an iterator over `length` nested numpy arrays shaped
        like `example`.
        """

    @staticmethod
    def check_distribution(strategy: Any) -> None:
        """Raises `PrivacyError` for a distribution strategy on which DP noise is not proven."""

    @staticmethod
    def compiled(function: Callable, jit_compile: bool = False) -> Callable:
        """Traces `function` into one graph per input signature (not traceable)."""

    @staticmethod
    def convolution_by_inputs(
        inputs: Any, kernel: Any, strides: Sequence[int], padding: str
    ) -> Any:
        """Convolves (batch, rows, columns, channels) inputs in two dimensions.

        For differentiation by the inputs alone, which is fast where they have few channels; the
        kernel, (rows, columns, channels, filters), counts as a constant. Both `strides` are the
        same, `padding` is "same" or "valid".
        """

    @staticmethod
    def einsum(equation: str, left: Any, right: Any) -> Any:
        """The contraction of two tensors as one operation, safe under `per_example_map`."""

    @staticmethod
    def example_reader(dataset: Any) -> tuple[int, Callable[[int], Any]]:
        """The length of a data set of single examples, and a function that reads one by its number.

        Not traceable. Raises `InputError` if the data set gives no random access.
        """

    @staticmethod
    def extract_shifts(
        inputs: Any,
        grads: Any,
        window: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        padding: str,
    ) -> tuple[Any, Any]:
        """Windows as `extract_windows` gives them, and the gradients (batch, *space, filters).

        Between the positions of one row of outputs and the next there may be others, where the
        windows are arbitrary and the gradients zero: sums over the positions are the same, and the
        windows cost less. Returns (batch, taps * channels, positions) and (batch, positions,
        filters).
        """

    @staticmethod
    def extract_windows(
        inputs: Any,
        window: Sequence[int],
        strides: Sequence[int],
        dilations: Sequence[int],
        padding: str,
    ) -> Any:
        """The windows a convolution sees in (batch, *space, channels) inputs.

        Returns (batch, taps * channels, positions); taps vary slower than channels.
        """

    @staticmethod
    def first_places(ordered: Any, values: Any) -> Any:
        """Where in each ascending row of `ordered` each of that row's `values` first stands.

        Both are (batch, count) integer tensors; returns int32 of the shape of `values`.
        """

    @staticmethod
    def framework_version() -> tuple[str, str]:
        """The framework's name and version (not traceable)."""

    @staticmethod
    def fused(function: Callable) -> Callable:
        """`function` of tensors as one kernel where that is possible, also in a graph of many.

        The kernel is kept for as long as the process lives, so `function` must be one that stays:
        of a module, not of an object or a call. Arguments that are no tensors are constants of the
        kernel.
        """

    @staticmethod
    def fused_call(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
        """Returns `function(*tensors)`, in a graph as one kernel where that is possible.

        `tensors` are nested. `function` must consist of operations that compile; it may change
        variables, and the kernel is kept for as long as the graph around it.
        """

    @staticmethod
    def gradients(
        function: Callable[[], tuple[Any, Any]],
        sources: Callable[[], Sequence[Any]],
        dense: bool = False,
        constants: Sequence[Any] = (),
    ) -> tuple[Any, Any, list[Any]]:
        """Differentiates once through everything `function` computes.

        `function()` returns (scalar, aux); afterwards `sources()` names tensors or variables that
        took part. Returns (scalar, aux, gradients), None where a source does not matter. Gradients
        of variables that were looked up in may be sparse, unless `dense`. Sources that depend on no
        variable have to be named among the `constants`.
        """

    @staticmethod
    def has_accelerator() -> bool:
        """Whether a GPU or TPU is there (not traceable)."""

    @staticmethod
    def host_array(variable: Any) -> Any:
        """A variable's value as a numpy array, without a copy if it lies on the host.

        Read it at once and never write to it (not traceable).
        """

    @staticmethod
    def input_gradient(function: Callable[[Any], Any], inputs: Any) -> tuple[Any, Any]:
        """Returns (function(inputs), gradient of it with respect to inputs).

        `function` maps the tensor to a scalar, or to a (scalar, aux) pair, which is then returned
        as it is. Nothing is differentiated with respect to variables.
        """

    @staticmethod
    def is_even(tensor: Any, axis: int) -> bool:
        """Whether the graph shows that `tensor` has the same values all along `axis`.

        False where this is not known, as in eager execution.
        """

    @staticmethod
    def is_outer_tensor(tensor: Any) -> bool:
        """Whether `tensor` can be used here, rather than only inside an inner loop or branch."""

    @staticmethod
    def litert_model(
        function: Callable[..., dict[str, Any]],
        inputs: Sequence[tuple[str, Sequence[int | None], str]],
        examples: Iterable[Any] | None = None,
    ) -> bytes:
        """The bytes of a LiteRT file (not traceable).

        `function` maps one tensor for each of `inputs` (name, shape, dtype) to named tensors and
        reads no variables. With `examples`, batches of its one input, everything that LiteRT can
        compute with 8-bit integers is quantized, activations too, and the examples calibrate it.
        Raises `InputError` for operations that LiteRT does not have.
        """

    @staticmethod
    def load_served_model(
        path: str,
        name: str,
    ) -> tuple[Callable[[dict[str, Any]], dict[str, Any]], dict[str, Any]]:
        """Loads a SavedModel as a function from named arrays to named arrays (not traceable).

        `name` is the signature to call. Returns that function and the variables it computes with,
        by their names; it raises `InputError` where the model cannot compute inputs of that size.
        A SavedModel is a program: load only one that was verified.
        """

    @staticmethod
    def named_constant(value: Any, dtype: str, name: str) -> Any:
        """A weight as a constant of the graph that is being traced.

        `read_served_model` finds it by that name, in which odd characters become underscores.
        """

    @staticmethod
    def normal(size: int, stddev: Any, key: Any, counter: Any) -> Any:
        """Draws `size` float32 normal values as a pure function of `key` and `counter`.

        `key` is an int64 tensor of shape (2,), `counter` an int64 scalar: the same pair gives the
        same noise on every replica, and no two pairs share a stream.
        """

    @staticmethod
    def onnx_model(
        function: Callable[..., dict[str, Any]],
        inputs: Sequence[tuple[str, Sequence[int | None], str]],
        opset: int,
    ) -> bytes:
        """The bytes of an ONNX file (not traceable).

        `function` maps one tensor for each of `inputs` (name, shape, dtype) to named tensors and
        reads no variables. Operations that ONNX does not have are left in it under their own names:
        check the result.
        """

    @staticmethod
    def per_example_map(function: Callable[[Any], Any], elements: Any) -> Any:
        """Maps `function` over the first axis of nested `elements`, vectorized."""

    @staticmethod
    def portable_normal(shape: Sequence[int], stddev: Any, key: Any, counter: Any) -> Any:
        """As `normal`, of a static `shape`, in operations that every server of the framework has.

        Values are others than those of `normal`.
        """

    @staticmethod
    def processor_replicas(count: int) -> Any:
        """A strategy of `count` replicas on one processor (not traceable).

        None in a process that has computed something already, and so laid out its devices.
        """

    @staticmethod
    def pulled_back(function: Callable[[Any], Any], inputs: Any, gradient: Any) -> Any:
        """The gradient by `inputs` when the gradient by `function(inputs)` is `gradient`."""

    @staticmethod
    def read_served_model(path: str) -> tuple[dict[str, int], dict[str, Any]]:
        """Reads what `save_served_model` wrote, and runs nothing of it (not traceable).

        Returns how often each operation stands in its graphs, and the weights as arrays by name.
        Raises `ValueError` for files that cannot be read.
        """

    @staticmethod
    def replica_count() -> int:
        """How many replicas run the current step in parallel."""

    @staticmethod
    def row_counts(indices: Any, num_rows: int) -> Any:
        """How often each row number occurs among each example's `indices`, (batch, positions).

        Returns float32 of shape (batch, num_rows).
        """

    @staticmethod
    def save_served_model(
        path: str,
        signatures: dict[str, Callable[[Any], dict[str, Any]]],
        name: str,
        shape: Sequence[int | None],
        dtype: str,
        variables: Sequence[Any],
    ) -> dict[str, dict[str, tuple[tuple[int | None, ...], str]]]:
        """Writes a SavedModel that runs on TensorFlow alone (not traceable).

        Each function maps one tensor of that `shape` (None: any size) and `dtype` to named tensors,
        and becomes the signature of its name, "serving_default" among them, with the input `name`.
        What several of them call through `compiled` is traced once. `variables` are all the Keras
        variables they read or update. Returns the shape and dtype of every output by signature.
        """

    @staticmethod
    def sequential_loop(
        condition: Callable[..., Any], body: Callable[..., Sequence[Any]], state: Sequence[Any]
    ) -> tuple[Any, ...]:
        """Repeats `state = body(*state)` while `condition(*state)`, tracing the body once.

        One turn ends before the next begins, so that memory holds what one turn needs. `state` is
        a flat sequence of tensors of static shape.
        """

    @staticmethod
    def secure_normal(size: int, stddev: Any, key: Any, counter: Any) -> Any:
        """As `normal`, from a cryptographic generator.

        `key` is an int64 tensor of shape (4,). Each value is a sum of several draws, so that
        rounding errors do not tell which.
        """

    @staticmethod
    def state_variable(value: Any, rows_vary: bool = False) -> Any:
        """A variable that a compiled step can read but that Keras never sees or saves.

        It may be made while a step is traced. With `rows_vary` its first axis may take any length
        later, except in steps that are compiled by XLA.
        """

    @staticmethod
    def toolkit_pruning(step: Any, weight: Any, mask: Any, threshold: Any, schedule: Any) -> Any:
        """One mask update by the pruning engine of the Model Optimization Toolkit (TFMOT).

        `weight` and `mask` of its shape, and the scalar `threshold`, are the framework's own
        floating point variables; `schedule` is one of the toolkit's or of the same interface.
        Returns the mask. Importing the toolkit changes no environment variable and no `tf.keras`.
        """

    @staticmethod
    def toolkit_schedules() -> Any:
        """The toolkit's module of pruning schedules, imported as above (not traceable)."""

    @staticmethod
    def trace(function: Callable, shape: Sequence[int | None], dtype: str) -> None:
        """Traces what `compiled` returned for one tensor, and runs nothing (not traceable)."""

    @staticmethod
    def unforeseen_key() -> Any:
        """An int64 tensor of shape (2,) that is another at every run of the graph it is in.

        Whatever seeds were set. Good for noise that attackers must not foresee, not for secrets.
        """

    @staticmethod
    def uniform(key: Any, streams: Any, counter: Any, count: int) -> Any:
        """Draws float32 values in [0, 1), one row for each stream, as a pure function.

        `key` holds two 32-bit words, `streams` is (rows, 2) of them, `counter` a scalar below 2^32.
        Returns (rows, count); a row depends on `key`, its stream and `counter` alone.
        """

    @staticmethod
    def write_warmup(
        path: str, model_name: str, requests: Sequence[tuple[str, dict[str, Any]]]
    ) -> None:
        """Writes the requests that a model server sends to a SavedModel first (not traceable).

        Each of `requests` is a signature and the arrays it takes, by name.
        """
