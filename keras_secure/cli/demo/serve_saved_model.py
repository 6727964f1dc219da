"""Serves a SavedModel with TensorFlow alone.

Run as a script, in a process of its own:
`python serve_saved_model.py SAVED_MODEL REQUEST.npz ANSWER.npz`. Every array of the request is
answered by its predictions, and by NAME_rejected.
"""

import sys
from typing import Any


def main(saved_model, request, answer):
    """Answers the request without Keras and without this library."""
    # TensorFlow imports Keras on its own if it is there; here it must do without.
    hidden: dict[str, Any] = {"keras": None, "keras_secure": None}
    sys.modules.update(hidden)

    import numpy as np
    import tensorflow as tf

    serve = tf.saved_model.load(saved_model).signatures["serving_default"]
    answers = {}
    with np.load(request) as arrays:
        for name in arrays.files:
            result = serve(x=tf.constant(arrays[name]))
            answers[name] = result["predictions"].numpy()
            answers[f"{name}_rejected"] = result["rejected"].numpy()
    np.savez(answer, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
