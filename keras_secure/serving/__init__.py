"""A verified bundle behind an address: who may ask, how often, and a trail of what was answered."""

__all__: list[str] = []
