"""SavedModels that put the names of files together, or keep them where few look."""

from dataclasses import replace

from scan_corpus.kinds import kind
from scan_corpus.payloads import MARKER
from scan_corpus.saved_model_kinds import (
    CALL,
    arranged,
    edited,
    graph_kind,
    quiet_tensorflow,
    saved,
)

PLACE = f"/tmp/{MARKER}"


def write_to(tf, x, name):
    tf.raw_ops.SaveV2(prefix=name, tensor_names=["a"], shape_and_slices=[""], tensors=[x])
    return tf.constant(0)


@graph_kind("graph-made-name", "files", CALL)
def _made(tf, x, variant):
    """No constant of the graph looks like a path."""
    import base64

    with tf.control_dependencies([tf.constant(0)]):
        name = variant.pick(
            (
                lambda: tf.strings.join(["/", "tmp", "/", MARKER]),
                lambda: tf.io.decode_base64(base64.urlsafe_b64encode(PLACE.encode()).rstrip(b"=")),
                lambda: tf.strings.unicode_encode([ord(letter) for letter in PLACE], "UTF-8"),
                lambda: tf.strings.regex_replace(PLACE.replace("/", "_"), "_", "/"),
                lambda: tf.strings.reduce_join(list(PLACE)),
                lambda: tf.strings.substr("x" + PLACE, 1, len(PLACE)),
                lambda: tf.constant(MARKER),
            ),
            "name",
        )()
    return write_to(tf, x, name)


@kind("graph-captured-name", "saved_model", "files", CALL)
def _captured(folder, variant):
    """The function that writes is given the name by what calls it."""
    tf = quiet_tensorflow()
    fixed = tf.constant(variant.pick((PLACE, MARKER), "name"))
    return saved(folder, variant, lambda x: write_to(tf, x, tf.identity(fixed)))


@graph_kind("graph-mapped-name", "files", CALL)
def _mapped(tf, x, variant):
    """A function of a dataset reads where what it is mapped over says."""

    def read(name):
        return tf.raw_ops.RestoreV2(
            prefix=name, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32]
        )[0]

    names = tf.data.Dataset.from_tensor_slices(["/srv", "/models"]).batch(2)
    found = names.map(lambda pair: read(tf.strings.join([pair[0], pair[1]])))
    return found.reduce(tf.constant(0.0), lambda total, value: total + tf.reduce_sum(value))


@graph_kind("graph-cache-file", "files", CALL)
def _cache(tf, x, variant):
    """A dataset that is kept in a file of the author's choice."""
    name = variant.pick((PLACE, "cache", "../x"), "name")
    return tf.data.Dataset.range(3).cache(name).reduce(tf.constant(0), lambda n, _: n + 1)


@graph_kind("graph-described-by-file", "files", CALL)
def _described(tf, x, variant):
    """Attributes, not inputs, that name a file to read."""
    make = variant.pick(
        (
            lambda: tf.raw_ops.DecodeProtoV2(
                bytes=tf.constant([b""]),
                message_type="a.B",
                field_names=["c"],
                output_types=[tf.float32],
                descriptor_source="descriptors.pb",
            )[0],
            lambda: tf.raw_ops.FixedUnigramCandidateSampler(
                true_classes=tf.constant([[1]], tf.int64),
                num_true=1,
                num_sampled=1,
                unique=True,
                range_max=2,
                vocab_file="words.txt",
            )[0],
        ),
        "operation",
    )
    return make()


@kind("graph-packed-name", "saved_model", "files", CALL)
def _packed(folder, variant):
    """The name stands in a constant in the form that numbers are packed in."""
    tf = quiet_tensorflow()
    plain = replace(variant, as_text=False, second_graph=False)
    path = saved(folder, plain, lambda x: write_to(tf, x, tf.constant(PLACE)))

    def pack(held):
        graph = held.meta_graphs[0].graph_def
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        found = [node for node in nodes if PLACE.encode() in node.attr["value"].tensor.string_val]
        assert found
        for node in found:
            tensor = node.attr["value"].tensor
            del tensor.string_val[:]
            tensor.tensor_content = bytes([len(PLACE)]) + PLACE.encode()

    edited(path, pack)
    return arranged(path, variant)
