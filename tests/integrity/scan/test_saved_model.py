import json

import pytest

from keras_secure.integrity.scan.saved_model_messages import _classes


def attr(key, **value):
    return {"key": key.encode(), "value": value}


def node(name, op, *inputs, attrs=(), device=""):
    return {
        "name": name.encode(),
        "op": op.encode(),
        "input": [i.encode() for i in inputs],
        "attr": list(attrs),
        "device": device.encode(),
    }


def constant(name, *texts):
    return node(name, "Const", attrs=[attr("value", tensor={"string_val": texts})])


def function(name, *nodes, arguments=()):
    signature = {"name": name.encode(), "input": [{"name": a.encode()} for a in arguments]}
    return {"signature": signature, "nodes": list(nodes)}


def call(name, callee, *inputs):
    return node(name, "StatefulPartitionedCall", *inputs, attrs=[attr("f", func={"name": callee})])


SAVER = (
    node("joined", "StringJoin", "file_prefix", "part"),
    constant("part", b"_temp/part"),
    node("sharded", "ShardedFilename", "joined"),
    node("save", "SaveV2", "sharded", "part"),
    node("merge", "MergeV2Checkpoints", "sharded", "file_prefix"),
    node("restore", "RestoreV2", "file_prefix", "part"),
)
USUAL = (node("saver_filename", "Placeholder"), call("saved", b"saver", "saver_filename:0"))


def graph(*nodes, functions=(), **more):
    saver = function("saver", *SAVER, arguments=["file_prefix"])
    return {
        "graph": {
            "nodes": [*USUAL, *nodes],
            "library": {"functions": [saver, *functions]},
        },
        **more,
    }


@pytest.fixture
def saved_model(tmp_path):
    def build(*graphs, **files):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        message = _classes()["SavedModel"](meta_graphs=list(graphs))
        (folder / "saved_model.pb").write_bytes(message.SerializeToString())
        for name, data in files.items():
            (folder / name.replace("__", ".")).write_bytes(data)
        return folder

    return build


HARMFUL = {
    "Python": (graph(node("x", "PyFunc")), "scan.savedmodel.python_op"),
    "stateless Python": (graph(node("x", "PyFuncStateless")), "scan.savedmodel.python_op"),
    "eager Python": (graph(node("x", "EagerPyFunc")), "scan.savedmodel.python_op"),
    "reading": (graph(node("x", "ReadFile")), "scan.savedmodel.file_op"),
    "writing": (graph(node("x", "WriteFile")), "scan.savedmodel.file_op"),
    "listing": (graph(node("x", "MatchingFiles")), "scan.savedmodel.file_op"),
    "records": (graph(node("x", "TFRecordDatasetV2")), "scan.savedmodel.file_op"),
    "debugging": (graph(node("x", "DebugIdentityV3")), "scan.savedmodel.file_op"),
    "mapped memory": (graph(node("x", "ImmutableConst")), "scan.savedmodel.file_op"),
    "remote call": (graph(node("x", "RemoteCall")), "scan.savedmodel.network_op"),
    "rpc": (graph(node("x", "RpcClient")), "scan.savedmodel.network_op"),
    "data service": (graph(node("x", "DataServiceDatasetV4")), "scan.savedmodel.network_op"),
    "custom": (graph(node("x", "ShellExecute")), "scan.savedmodel.custom_op"),
    "iterator": (graph(node("x", "IteratorV2")), "scan.savedmodel.rare_op"),
    "abort": (graph(node("x", "Abort")), "scan.savedmodel.rare_op"),
    "in a function": (
        graph(functions=[function("f", node("x", "WriteFile"))]),
        "scan.savedmodel.file_op",
    ),
    "in a function's name": (
        graph(node("x", "ReadFile"), functions=[function("ReadFile", node("y", "NoOp"))]),
        "scan.savedmodel.file_op",
    ),
    "in the list of operations": (
        graph(meta_info={"ops": {"op": [{"name": b"EvilOp"}]}}),
        "scan.savedmodel.custom_op",
    ),
    "printing to a file": (
        graph(node("x", "PrintV2", attrs=[attr("output_stream", s=b"file:///tmp/x")])),
        "scan.savedmodel.file_op",
    ),
    "saving to a fixed place": (
        graph(constant("name", b"/etc/cron.d/x"), node("x", "SaveV2", "name")),
        "scan.savedmodel.path",
    ),
    "restoring from an address": (
        graph(constant("name", b"gs://bucket/x"), node("x", "RestoreV2", "name")),
        "scan.savedmodel.path",
    ),
    "a fixed place through a call": (
        graph(constant("name", b"/etc/x/y"), call("x", b"saver", "name")),
        "scan.savedmodel.path",
    ),
    "a fixed place through two calls": (
        graph(
            constant("name", b"/etc/x/y"),
            node("same", "Identity", "name"),
            call("x", b"outer", "same:0"),
            functions=[function("outer", call("y", b"saver", "p"), arguments=["p"])],
        ),
        "scan.savedmodel.path",
    ),
    "a table from a fixed place": (
        graph(
            constant("name", b"/etc/passwd"),
            node("table", "HashTableV2"),
            node("x", "InitializeTableFromTextFileV2", "table", "name"),
        ),
        "scan.savedmodel.path",
    ),
    "a name without a place": (
        graph(constant("name", b"model"), node("x", "SaveV2", "name")),
        "scan.savedmodel.path",
    ),
    "a name put together": (
        graph(
            constant("first", b"/e"),
            constant("second", b"tc/x"),
            node("name", "StringJoin", "first", "second"),
            node("x", "RestoreV2", "name"),
        ),
        "scan.savedmodel.path",
    ),
    "a name cut out of a fed one": (
        graph(node("name", "Substr", "saver_filename"), node("x", "RestoreV2", "name")),
        "scan.savedmodel.path",
    ),
    "steps upwards from a fed name": (
        graph(
            constant("dot", b"/."),
            node("name", "StringJoin", "saver_filename", "dot", "dot"),
            node("x", "RestoreV2", "name"),
        ),
        "scan.savedmodel.path",
    ),
    "a name that a variable keeps": (
        graph(
            node("kept", "VarHandleOp"),
            node("name", "ReadVariableOp", "kept"),
            node("x", "RestoreV2", "name"),
        ),
        "scan.savedmodel.path",
    ),
    "a name packed like numbers": (
        graph(
            node(
                "name",
                "Const",
                attrs=[attr("value", tensor={"dtype": 7, "content": b"\x06/etc/x"})],
            ),
            node("x", "RestoreV2", "name"),
        ),
        "scan.savedmodel.path",
    ),
    "a fixed place through a call by name": (
        graph(constant("name", b"/etc/x/y"), node("x", "saver", "name")),
        "scan.savedmodel.path",
    ),
    "a fixed place through a dataset": (
        graph(
            constant("name", b"/etc/x/y"),
            node("data", "RangeDataset"),
            node("x", "MapDataset", "data", "name", attrs=[attr("f", func={"name": b"outer"})]),
            functions=[function("outer", call("y", b"saver", "b"), arguments=["a", "b"])],
        ),
        "scan.savedmodel.path",
    ),
    "a fixed place that a function is bound to": (
        graph(
            constant("name", b"x"),
            functions=[function("outer", call("y", b"saver", "b"), arguments=["a", "b"])],
            objects={
                "nodes": [{"constant": {"operation": b"name"}}],
                "concrete_functions": [{"key": b"outer", "value": {"bound_inputs": [0]}}],
            },
        ),
        "scan.savedmodel.path",
    ),
    "a variable that a function is bound to": (
        graph(
            functions=[function("outer", call("y", b"saver", "b"), arguments=["a", "b"])],
            objects={
                "nodes": [{"variable": {"dtype": 7}}],
                "concrete_functions": [{"key": b"outer", "value": {"bound_inputs": [0]}}],
            },
        ),
        "scan.savedmodel.path",
    ),
    "a cache in a file": (
        graph(constant("name", b"cache"), node("x", "CacheDatasetV2", "data", "name")),
        "scan.savedmodel.path",
    ),
    "a description in a file": (
        graph(node("x", "DecodeProtoV2", attrs=[attr("descriptor_source", s=b"a.pb")])),
        "scan.savedmodel.path",
    ),
    "a vocabulary in a file": (
        graph(node("x", "FixedUnigramCandidateSampler", attrs=[attr("vocab_file", s=b"a")])),
        "scan.savedmodel.path",
    ),
    "a path as an attribute": (
        graph(node("x", "NoOp", attrs=[attr("file", s=b"/etc/x/y")])),
        "scan.savedmodel.path",
    ),
    "code as an attribute": (
        graph(node("x", "NoOp", attrs=[attr("t", s=b"__import__('os')")])),
        "scan.keras.code",
    ),
    "another machine": (
        graph(node("x", "NoOp", device="/job:worker/task:1")),
        "scan.savedmodel.device",
    ),
    "an asset outside": (graph(assets=[{"filename": b"../../etc/x"}]), "scan.savedmodel.asset"),
    "an asset anywhere": (graph(assets=[{"filename": b"/etc/x"}]), "scan.savedmodel.asset"),
    "a collection": (
        graph(collections=[{"key": b"x", "value": {"blobs": {"value": [b"/etc/x/y"]}}}]),
        "scan.savedmodel.path",
    ),
    "an asset in a collection": (
        graph(
            collections=[
                {
                    "key": b"saved_model_assets",
                    "value": {"any": {"value": [{"value": b"\x12\x05../xy"}]}},
                }
            ]
        ),
        "scan.savedmodel.asset",
    ),
    "a constant that fills memory": (
        graph(
            node("x", "Const", attrs=[attr("value", tensor={"shape": {"dim": [{"size": 10**12}]}})])
        ),
        "scan.savedmodel.bomb",
    ),
    "a lambda in an object": (
        graph(
            objects={
                "nodes": [{"user_object": {"metadata": b'{"class_name": "Lambda", "config": {}}'}}]
            }
        ),
        "scan.keras.lambda",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, saved_model, failing):
    harmful, expected = HARMFUL[case]
    assert expected in failing(saved_model(harmful))
    # Nor does a harmless graph before it hide it.
    assert expected in failing(saved_model(graph(), harmful))


HARMLESS = {
    "saving as usual": graph(),
    "computing": graph(node("x", "MatMul"), node("y", "TensorArrayV3"), node("z", "DecodeRaw")),
    "a call by name": graph(node("x", "f"), functions=[function("f", node("y", "Relu"))]),
    "printing": graph(node("x", "PrintV2", attrs=[attr("output_stream", s=b"stderr")])),
    "a table from an asset": graph(
        node("name", "Placeholder"),
        node("table", "HashTableV2"),
        node("x", "InitializeTableFromTextFileV2", "table", "name"),
        assets=[{"filename": b"words.txt"}],
    ),
    "a table from an asset by its name": graph(
        constant("name", b"words.txt"),
        node("table", "HashTableV2"),
        node("x", "InitializeTableFromTextFileV2", "table", "name"),
        assets=[{"tensor_info": {"name": b"name:0"}, "filename": b"words.txt"}],
    ),
    "a table from an asset by a variable": graph(
        node("fed", "Placeholder"),
        node("kept", "VarHandleOp"),
        node("assign", "AssignVariableOp", "kept", "fed"),
        node("name", "ReadVariableOp", "kept"),
        node("table", "HashTableV2"),
        node("x", "InitializeTableFromTextFileV2", "table", "name"),
    ),
    "a saver of TensorFlow 1": graph(
        constant("save/Const", b"model"),
        node("save", "SaveV2", "save/Const"),
        saver={"filename": b"save/Const:0"},
    ),
    "a function bound to an asset": graph(
        functions=[function("outer", call("y", b"saver", "b"), arguments=["a", "b"])],
        objects={
            "nodes": [{"asset": {"index": 0}}],
            "concrete_functions": [{"key": b"outer", "value": {"bound_inputs": [0]}}],
        },
    ),
    "a cache in memory": graph(constant("name", b""), node("x", "CacheDatasetV2", "data", "name")),
    "descriptions within": graph(
        node("x", "DecodeProtoV2", attrs=[attr("descriptor_source", s=b"local://")])
    ),
    "words that look like paths": graph(constant("words", b"/etc/passwd", b"http://a.b/c")),
    "this machine": graph(node("x", "NoOp", device="/job:localhost/device:CPU:0")),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_is_harmless_passes(case, saved_model, failing):
    assert failing(saved_model(HARMLESS[case])) == set()


def test_an_operation_is_allowed_by_name(saved_model, failing):
    path = saved_model(graph(node("x", "IteratorV2")))
    assert failing(path, allow=["IteratorV2"]) == set()


def test_metadata_of_keras_2_are_read(saved_model, failing):
    def metadata(config):
        nodes = [{"node_path": b"root", "metadata": json.dumps(config).encode()}]
        return _classes()["SavedMetadata"](nodes=nodes).SerializeToString()

    dense = {"class_name": "Dense", "config": {"units": 3}}
    assert failing(saved_model(graph(), keras_metadata__pb=metadata(dense))) == set()
    lam = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Lambda"}]}}
    path = saved_model(graph(), keras_metadata__pb=metadata(lam))
    assert "scan.keras.lambda" in failing(path)
    path = saved_model(graph(), keras_metadata__pb=b"\xff\xff\xff")
    assert "scan.savedmodel.malformed" in failing(path)


def test_what_is_damaged_is_malformed(saved_model, failing):
    path = saved_model(graph())
    for data in (b"", b"\x0a", b"\xff" * 20, b"\x12\x05" + bytes(2)):
        (path / "saved_model.pb").write_bytes(data)
        assert "scan.savedmodel.malformed" in failing(path)


def test_a_graph_in_text_is_refused(saved_model, failing):
    path = saved_model(graph(), saved_model__pbtxt=b"meta_graphs {}")
    assert failing(path) == {"scan.savedmodel.text"}


def test_deep_messages_are_refused(saved_model, failing):
    def nested(depth):
        callee = {"name": b"f"}
        for _ in range(depth):
            callee = {"name": b"f", "attr": [attr("x", func=callee)]}
        return callee

    inner = b""
    # Written by hand: the library refuses to build what it would refuse to read.
    for _ in range(300):
        field = b"\x12" + _varint(len(inner)) + inner
        value = b"\x52" + _varint(len(field)) + field
        inner = b"\x12" + _varint(len(value)) + value
    path = saved_model(graph())
    data = b"\x2a" + _varint(len(inner)) + inner
    for tag in (b"\x0a", b"\x12", b"\x12"):
        data = tag + _varint(len(data)) + data
    (path / "saved_model.pb").write_bytes(data)
    assert "scan.savedmodel.malformed" in failing(path)
    assert (
        failing(saved_model(graph(node("x", "NoOp", attrs=[attr("f", func=nested(5))])))) == set()
    )


def _varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def test_what_keras_and_tensorflow_export_passes(tmp_path, inspect, failing):
    import keras
    import numpy as np
    import tensorflow as tf

    words = keras.layers.TextVectorization(
        vocabulary=["a", "/etc/passwd"], output_sequence_length=4
    )
    model = keras.Sequential(
        [
            keras.Input((1,), dtype="string"),
            words,
            keras.layers.Embedding(10, 4),
            keras.layers.LSTM(3),
            keras.layers.Dense(2),
        ]
    )
    model.export(str(tmp_path / "exported"), verbose=False)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    assert inspect(tmp_path / "exported") == []
    assert inspect(tmp_path / "saved") == []

    shard = tmp_path / "exported/variables/variables.data-00000-of-00001"
    data = shard.read_bytes()
    kernel = model.layers[-1].kernel.numpy().astype("<f4").tobytes()
    at = data.index(kernel)
    shard.write_bytes(data[:at] + np.float32(np.nan).tobytes() + data[at + 4 :])
    assert failing(tmp_path / "exported") == {"scan.weights.nonfinite"}
    shard.write_bytes(data + b"hidden")
    assert failing(tmp_path / "exported") == {"scan.weights.index"}
    shard.write_bytes(data[:-1])
    assert failing(tmp_path / "exported") == {"scan.weights.index"}
    shard.unlink()
    assert failing(tmp_path / "exported") == {"scan.savedmodel.incomplete"}
    index = tmp_path / "saved/variables/variables.index"
    index.write_bytes(index.read_bytes()[:-3])
    assert failing(tmp_path / "saved") == {"scan.weights.index"}
