"""Finds what should not be there: adversarial inputs, poisoned examples, backdoors."""

__all__: list[str] = []
