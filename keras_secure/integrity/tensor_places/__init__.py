"""Which bytes of a model file hold which tensor, told without reading a byte that is damaged."""

from keras_secure.integrity.tensor_places.lost import LostTensors, lost_tensors

__all__ = ["LostTensors", "lost_tensors"]
