"""What a check is: a function that raises where the engine breaks its promise."""


class CheckFailed(Exception):
    """A promise of private training does not hold."""


def require(holds, statement):
    """Raises `CheckFailed(statement)` unless `holds`."""
    if not holds:
        raise CheckFailed(statement)


def require_refusal(error, action, statement):
    """Raises `CheckFailed(statement)` unless `action()` raises `error`."""
    try:
        action()
    except error:
        return
    raise CheckFailed(statement)
