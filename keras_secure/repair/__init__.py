"""Takes a weakness out of a model that has one, and shows before and after."""

__all__: list[str] = []
