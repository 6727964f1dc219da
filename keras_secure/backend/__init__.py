"""The only room that touches the numerical framework below Keras.

`contract.py` lists what a backend offers; `keras_secure/backend/<name>/` implements it. Use it as
`from keras_secure import backend` and `backend.input_gradient(...)`.
"""

import importlib

import keras

from keras_secure.backend.contract import Backend


def __getattr__(name):
    if name not in Backend.__dict__ or name.startswith("_"):
        raise AttributeError(f"The backend contract has no function {name!r}.")
    framework = keras.backend.backend()
    if framework != "tensorflow":
        raise RuntimeError(
            f"keras_secure runs Keras on TensorFlow, but Keras is using {framework!r}. "
            "Set the environment variable KERAS_BACKEND=tensorflow before importing keras."
        )
    return getattr(importlib.import_module(f"keras_secure.backend.{framework}"), name)
