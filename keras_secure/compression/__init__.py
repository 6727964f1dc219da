"""Smaller models: pruned, clustered, quantized; ordinary Keras models before and after."""

__all__: list[str] = []
