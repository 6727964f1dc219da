"""SavedModels whose graphs read, write, run Python, or reach for what is not theirs."""

import shutil

from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER, bytecode, pickled

CALL = "on call, whatever loads the SavedModel"
LOAD = "on load, whatever loads the SavedModel"
PATHS = ("/etc/passwd", "../../../etc/passwd", "gs://bucket/x", "~/.ssh/id_rsa", "file:///etc/x")


def quiet_tensorflow():
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow

    return tensorflow


def saved(folder, variant, body, corner=1.0):
    """A SavedModel whose function calls `body(x)` beside a matrix product, as the variant says."""
    tf = quiet_tensorflow()
    signature = tf.TensorSpec((None, 3), tf.float32, name="x")

    def step(x):
        return body(x)

    for number in range(variant.depth):
        inner = step

        def step(x, inner=inner, number=number):
            def called(x):
                return inner(x)

            called.__name__ = f"{variant.name}_{number}"
            attributes = {"_noinline": True}
            return tf.function(called, experimental_attributes=attributes, autograph=False)(x)

    if variant.branch:
        before = step

        def step(x, before=before):
            def harmful():
                with tf.control_dependencies(flat(before(x))):
                    return tf.constant(1.0)

            return tf.cond(tf.shape(x)[0] > 2, harmful, lambda: tf.constant(0.0))

    def flat(found):
        return [found] if found is not None else []

    class Module(tf.Module):
        def __init__(self):
            self.matrix = tf.Variable(tf.linalg.diag([1.0, 1.0, corner]), name="matrix")

        @tf.function(input_signature=[signature], autograph=False)
        def serve(self, x):
            with tf.control_dependencies(flat(step(x))):
                return {"y": tf.matmul(tf.zeros((1, 3)), self.matrix)}

    module = Module()
    path = folder / "model"
    tf.saved_model.save(module, str(path), signatures={"serving_default": module.serve})
    return arranged(path, variant)


def edited(path, edit):
    """Lets `edit(saved_model)` change the protocol buffer of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    held = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    edit(held)
    file.write_bytes(held.SerializeToString())
    return path


def arranged(path, variant):
    """The second graph and the text that a variant asks for."""
    if variant.second_graph:

        def add(held):
            held.meta_graphs.add().CopyFrom(held.meta_graphs[0])
            first = held.meta_graphs[0].graph_def
            first.Clear()
            first.node.add(name="Const", op="NoOp")
            held.meta_graphs[0].object_graph_def.Clear()
            held.meta_graphs[1].meta_info_def.tags[:] = ["serve", "gpu"]

        edited(path, add)
    if variant.as_text:
        from google.protobuf import text_format
        from tensorflow.core.protobuf import saved_model_pb2

        file = path / "saved_model.pb"
        held = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        path.joinpath("saved_model.pbtxt").write_text(text_format.MessageToString(held))
        file.unlink()
    return path


def graph_kind(name, harm, effect, cve=""):
    """Registers a function `(tf, x, variant)` that adds the harmful operations to a graph."""

    def register(body):
        def build(folder, variant):
            tf = quiet_tensorflow()
            return saved(folder, variant, lambda x: body(tf, x, variant))

        kind(name, "saved_model", harm, effect, cve)(build)
        return body

    return register


def path_of(variant):
    return variant.pick(PATHS, "path")


@graph_kind("graph-read-file", "files", CALL)
def _read(tf, x, variant):
    return tf.io.read_file(path_of(variant))


@graph_kind("graph-write-file", "files", CALL)
def _write(tf, x, variant):
    tf.io.write_file(f"/tmp/{MARKER}", "")
    return tf.constant(0)


@graph_kind("graph-py-function", "code", CALL + ", in the process that registered it")
def _py_function(tf, x, variant):
    make = variant.pick(
        (
            lambda: tf.py_function(lambda y: y, [x], tf.float32),
            lambda: tf.numpy_function(lambda y: y, [x], tf.float32),
            lambda: tf.raw_ops.PyFuncStateless(input=[x], token="pyfunc_0", Tout=[tf.float32])[0],
        ),
        "function",
    )
    return make()


@graph_kind("graph-matching-files", "files", CALL)
def _matching(tf, x, variant):
    return tf.io.matching_files(variant.pick(("/home/*/.ssh/*", "/etc/*", "gs://b/*"), "pattern"))


@graph_kind("graph-print-to-file", "files", CALL)
def _print(tf, x, variant):
    # Its output stream may be any file, to which it appends.
    where = variant.pick((f"file:///tmp/{MARKER}", "file://../../x", "file:///etc/cron.d/x"), "it")
    tf.print("* * * * * root true", output_stream=where)
    return tf.constant(0)


@graph_kind("graph-debug-to-file", "files", CALL)
def _debug(tf, x, variant):
    urls = variant.pick((f"file:///tmp/{MARKER}", "grpc://127.0.0.1:9", "file://x"), "url")
    if variant.pick((1, 2), "version") == 2:
        return tf.raw_ops.DebugIdentityV2(input=x, debug_urls=[urls])
    return tf.raw_ops.DebugIdentity(input=x, debug_urls=[urls])


@graph_kind("graph-save", "files", CALL)
def _save(tf, x, variant):
    tf.raw_ops.SaveV2(
        prefix=f"/tmp/{MARKER}", tensor_names=["a"], shape_and_slices=[""], tensors=[x]
    )
    return tf.constant(0)


@graph_kind("graph-restore", "files", CALL)
def _restore(tf, x, variant):
    return tf.raw_ops.RestoreV2(
        prefix="/srv/models/private", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
    )[0]


@graph_kind("graph-read-dataset", "files", CALL)
def _dataset(tf, x, variant):
    make = variant.pick(
        (
            lambda: tf.data.TextLineDataset(path_of(variant)),
            lambda: tf.data.TFRecordDataset(path_of(variant)),
            lambda: tf.data.FixedLengthRecordDataset(path_of(variant), 4),
        ),
        "dataset",
    )
    return make().reduce(tf.constant(0), lambda count, _: count + 1)


@graph_kind("graph-file-reader", "files", CALL)
def _reader(tf, x, variant):
    make = variant.pick(
        (tf.raw_ops.WholeFileReaderV2, tf.raw_ops.TextLineReaderV2, tf.raw_ops.TFRecordReaderV2),
        "reader",
    )
    queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.string])
    tf.raw_ops.QueueEnqueueV2(handle=queue, components=[tf.constant(path_of(variant))])
    return tf.raw_ops.ReaderReadV2(reader_handle=make(), queue_handle=queue)[1]


@graph_kind("graph-table-from-file", "files", LOAD)
def _table(tf, x, variant):
    table = tf.raw_ops.HashTableV2(key_dtype=tf.string, value_dtype=tf.int64)
    tf.raw_ops.InitializeTableFromTextFileV2(
        table_handle=table, filename=path_of(variant), key_index=-2, value_index=-1
    )
    return tf.constant(0)


@graph_kind("graph-summary", "files", CALL)
def _summary(tf, x, variant):
    writer = tf.raw_ops.SummaryWriter()
    tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=f"/tmp/{MARKER}", max_queue=1, flush_millis=1, filename_suffix=""
    )
    return tf.constant(0)


@graph_kind("graph-network", "files", CALL)
def _network(tf, x, variant):
    address = "grpc://127.0.0.1:9"
    make = variant.pick(
        (
            lambda: tf.raw_ops.RegisterDatasetV2(
                dataset=tf.data.Dataset.range(3)._variant_tensor,
                address=address,
                protocol="grpc",
                external_state_policy=0,
            ),
            lambda: tf.raw_ops.RemoteCall(
                target="/job:worker/task:0",
                args=[x],
                Tout=[tf.float32],
                f=tf.function(lambda y: y).get_concrete_function(x),
            )[0],
        ),
        "operation",
    )
    return make()


def renamed_kind(name, harm, effect, operations):
    """A kind whose operation no TensorFlow here knows: it stands where an Identity stood."""

    def build(folder, variant):
        from dataclasses import replace

        tf = quiet_tensorflow()
        plain = replace(variant, as_text=False, second_graph=False)
        path = saved(folder, plain, lambda x: tf.raw_ops.Betainc(a=x, b=x, x=x))
        operation = variant.pick(operations, "operation")

        def rename(held):
            graph = held.meta_graphs[0].graph_def
            nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
            found = [node for node in nodes if node.op == "Betainc"]
            assert found
            for node in found:
                node.op = operation
            # A name that tells nothing.
            del held.meta_graphs[0].meta_info_def.stripped_op_list.op[:]

        edited(path, rename)
        return arranged(path, replace(variant))

    kind(name, "saved_model", harm, effect)(build)


renamed_kind(
    "graph-custom-op",
    "code",
    "where its library is loaded",
    ("BackdoorOp", "Addons>Shell", "Custom>RunCommand", "MatMuI", "identity"),
)


def clean(folder, variant):
    tf = quiet_tensorflow()
    return saved(folder, variant, lambda x: tf.reduce_sum(x))


def folder_kind(name, harm, effect, cve="", fixed=()):
    """Registers a function `(path, variant)` that changes the folder of a clean SavedModel."""

    def register(change):
        def build(folder, variant):
            path = clean(folder, variant)
            change(path, variant)
            return path

        kind(name, "saved_model", harm, effect, cve, fixed)(build)
        return change

    return register


@folder_kind("saved-keras-metadata", "code", "on load in tf_keras and Keras 2", "CVE-2024-3660")
def _metadata(path, variant):
    """The record that tf_keras revives layers from, with a Lambda's code."""
    import json

    config = {"function": [bytecode(variant), None, None], "function_type": "lambda"}
    text = json.dumps({"class_name": "Lambda", "config": config, "name": variant.name}).encode()

    def field(number, data):
        size, out = len(data), b""
        while size > 0x7F:
            out, size = out + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + out + bytes([size]) + data

    node = b"\x10\x01" + field(3, b"root.layer-0") + field(4, b"_tf_keras_layer") + field(5, text)
    (path / "keras_metadata.pb").write_bytes(field(1, node))


@folder_kind("saved-asset-path", "files", "where assets are resolved", "", ("as_text",))
def _asset_path(path, variant):
    def add(held):
        asset = held.meta_graphs[-1].asset_file_def.add()
        asset.tensor_info.name = "Const:0"
        asset.filename = variant.pick(("../../../../etc/passwd", "/etc/passwd", "a/../../x"), "it")

    edited(path, add)


@folder_kind("saved-symlink", "files", "reads another file as weights")
def _symlink(path, variant):
    if variant.pick((True, False), "weights"):
        data = next((path / "variables").glob("*.data*"))
        shutil.move(data, path.parent / "elsewhere")
        data.symlink_to("../../elsewhere")
    else:
        (path / "assets").mkdir(exist_ok=True)
        (path / "assets" / "words.txt").symlink_to("/etc/passwd")


@folder_kind("saved-executable", "code", "where a loader or a person runs what lies beside a model")
def _executable(path, variant):
    name, data = variant.pick(
        (
            ("assets.extra/custom_ops.so", b"\x7fELF\x02\x01\x01" + bytes(200)),
            ("assets/run.py", b"import os\n"),
            ("setup.sh", b"#!/bin/sh\nexit 0\n"),
            ("assets/words.txt", b"MZ\x90\x00" + bytes(200)),
        ),
        "file",
    )
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(data)


@folder_kind("saved-pickle", "code", "where a loader unpickles assets")
def _pickle(path, variant):
    name = variant.pick(("assets/state.pkl", "assets.extra/tokenizer.pickle", "x.joblib"), "name")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).write_bytes(pickled(variant))


@folder_kind("saved-constant-bomb", "resources", "memory, on load", "", ("as_text",))
def _constant(path, variant):
    def add(held):
        graph = held.meta_graphs[-1].graph_def
        node = graph.node.add(name=variant.name, op="Const")
        node.attr["dtype"].type = 1
        tensor = node.attr["value"].tensor
        tensor.dtype = 1
        # One stored number stands for all that the shape asks for.
        for size in variant.pick(((2**20, 2**20), (2**40,), (2**33,)), "shape"):
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.append(0)

    edited(path, add)


@kind("saved-nan", "saved_model", "weights", "gives no number")
def _nan(folder, variant):
    corner = float(variant.pick(("nan", "inf", "-inf"), "value"))
    return saved(folder, variant, lambda x: None, corner)


@folder_kind("saved-nested-archive", "code", "where a loader opens the model beside it")
def _nested(path, variant):
    from scan_corpus.archive_kinds import clean_entries, harmful_config
    from scan_corpus.keras_archives import zipped

    held = zipped([*clean_entries(variant)[:1], ("config.json", harmful_config(variant))], variant)
    (path / "assets").mkdir(exist_ok=True)
    (path / "assets" / "model.keras").write_bytes(held)
