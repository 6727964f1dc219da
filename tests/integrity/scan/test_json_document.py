import pytest

HARMFUL = {
    "doubled key": (b'{"class_name": "Dense", "class_name": "Lambda"}', "scan.json.duplicate_key"),
    "not a number": (b'{"class_name": "Dense", "config": {"units": NaN}}', "scan.json.constant"),
    "infinity": (b'{"class_name": "Dense", "config": {"units": -Infinity}}', "scan.json.constant"),
    "no JSON": (b"{'class_name': 'Dense'}", "scan.json.malformed"),
    "nothing": (b"", "scan.json.malformed"),
    "no text": (b"\xff\xfe\xfa\xfb\x00", "scan.json.malformed"),
    "half a letter": (b'{"class_name": "\xc3"}', "scan.json.malformed"),
    "deep": (b'{"class_name": "Dense", "x": ' + b"[" * 500 + b"]" * 500 + b"}", "scan.json.depth"),
    "very deep": (b"[" * 200_000, "scan.json.depth"),
    "huge number": (b'{"class_name": "Dense", "x": ' + b"9" * 10_000 + b"}", "scan.json.malformed"),
    "no object": (b"[1, 2]", "scan.keras.malformed"),
    "no class": (b'{"config": {}}', "scan.keras.malformed"),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_what_is_harmful_is_named(case, keras_file, failing):
    data, expected = HARMFUL[case]
    assert expected in failing(keras_file(replaced={"config.json": data}))


def test_a_document_beyond_the_limit_is_not_read(keras_file, failing):
    assert "scan.json.size" in failing(keras_file(), document=100)


def test_brackets_in_words_are_no_depth(keras_file, failing, sequential):
    words = ["[" * 30 for _ in range(30)]
    layer = {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"vocabulary": words},
    }
    assert failing(keras_file(sequential(layer))) == set()


def test_other_encodings_are_read_as_keras_does(keras_file, failing, sequential):
    import json

    lam = {"module": "keras.layers", "class_name": "Lambda", "config": {}}
    data = json.dumps(sequential(lam)).encode("utf-16")
    assert "scan.keras.lambda" in failing(keras_file(replaced={"config.json": data}))
