"""ChaCha20 is that of RFC 8439, in graphs and under XLA."""

import numpy as np
import pytest
import tensorflow as tf
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from keras_secure.backend.tensorflow.chacha20 import chacha20


def stream(key, nonce, num_blocks, first_block=0, jit_compile=False):
    words = [np.frombuffer(part, dtype="<u4") for part in (key, nonce)]
    function = tf.function(
        lambda k, n: chacha20(k, n, num_blocks, first_block), jit_compile=jit_compile
    )
    return function(*words).numpy().T.astype("<u4").tobytes()


# RFC 8439: section 2.3.2 and appendix A.1, test vectors 1 to 5.
VECTORS = [
    (
        bytes(range(32)).hex(),
        "000000090000004a00000000",
        1,
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
    ),
    (
        "00" * 32,
        "00" * 12,
        0,
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
    ),
    (
        "00" * 32,
        "00" * 12,
        1,
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
    ),
    (
        "00" * 31 + "01",
        "00" * 12,
        1,
        "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a"
        "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
    ),
    (
        "00ff" + "00" * 30,
        "00" * 12,
        2,
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
    ),
    (
        "00" * 32,
        "00" * 11 + "02",
        0,
        "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7"
        "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
    ),
]


@pytest.mark.parametrize(("key", "nonce", "number", "expected"), VECTORS)
def test_published_vectors(key, nonce, number, expected):
    found = stream(bytes.fromhex(key), bytes.fromhex(nonce), 1, number)
    assert found.hex() == expected


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("blocks", [1, 3, 100])
def test_stream_is_that_of_another_implementation(blocks, jit_compile):
    rng = np.random.default_rng(blocks)
    key, nonce = rng.bytes(32), rng.bytes(12)
    cipher = Cipher(algorithms.ChaCha20(key, (7).to_bytes(4, "little") + nonce), mode=None)
    expected = cipher.encryptor().update(bytes(64 * blocks))
    assert stream(key, nonce, blocks, 7, jit_compile) == expected
