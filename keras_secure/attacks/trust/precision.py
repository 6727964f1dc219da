"""How precisely a model computes."""


def rounding_of(model):
    """Returns what arithmetic may lose in a logit, as a share of the largest one.

    Args:
        model: A Keras model.

    Returns:
        A float, by the coarsest precision that any of its layers computes in.

    Example:

    >>> import keras
    >>> dense = keras.layers.Dense(2, dtype="mixed_float16")
    >>> rounding_of(keras.Sequential([keras.Input((3,)), dense])) == 2.0**-9
    True
    """
    found = {layer.compute_dtype for layer in _layers_of(model)}
    # A few units in the last place of 8, 11 or 24 bits.
    return 2.0**-6 if "bfloat16" in found else 2.0**-9 if "float16" in found else 2.0**-19


def _layers_of(model):
    found, queue = [], [model]
    while queue:
        layer = queue.pop()
        found.append(layer)
        inner = getattr(layer, "layers", None)
        queue += list(inner) if isinstance(inner, (list, tuple)) else []
    return found
