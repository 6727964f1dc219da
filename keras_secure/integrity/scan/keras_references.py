"""Names of classes and functions that loading looks up: whose they are, and what that means."""

from typing import Any, NamedTuple

from keras_secure.integrity.scan import keras_names
from keras_secure.integrity.scan.foreign_modules import may_import, reaches_out
from keras_secure.integrity.scan.known_classes import is_builtin, is_keras_2, is_legacy, is_ours
from keras_secure.integrity.scan.place import quoted

_BUILTIN_MODULES = frozenset({None, "", "builtins"})
_FUNCTION_MODULES = frozenset(
    {
        "builtins",
        "keras.activations",
        "keras.constraints",
        "keras.initializers",
        "keras.losses",
        "keras.metrics",
        "keras.regularizers",
    }
)
_OPERATION_MODULES = frozenset({"keras.ops", "keras.ops.image", "keras.ops.nn", "keras.ops.numpy"})


class Judgement(NamedTuple):
    """The rule under which a name is reported, and the sentence for it."""

    rule: str
    statement: str


def judge_class(
    name: str, module: Any, registered: Any, allow: frozenset[str], legacy: bool
) -> Judgement | None:
    """Says what loading an object of a class would look up.

    Args:
        name: The `class_name`.
        module: The `module`, whatever stands there.
        registered: The `registered_name`, whatever stands there.
        allow: Names that the user allows.
        legacy: Whether the configuration is of a kind where objects have no module.

    Returns:
        The judgement; None for a class of Keras.
    """
    label = f"{quoted(module)}>{quoted(name)}" if module else quoted(name)
    unknown = f"{label} is no class of Keras."
    if isinstance(registered, str) and registered not in (name, f"{module}>{name}"):
        unknown = f"{label}, registered as {quoted(registered)}, is no class of Keras."
    if allowed := _names(name, module, registered) & allow:
        return Judgement("scan.keras.allowed", f"{label} was allowed as {sorted(allowed)[0]}.")
    if not isinstance(module, (str, type(None))):
        return Judgement("scan.keras.malformed", f"The module of {label} is no string.")
    if is_ours(module, registered, name):
        return Judgement("scan.keras.own_class", f"{label} belongs to keras_secure.")
    if is_builtin(module, name, registered) or is_keras_2(module, name, registered):
        return None
    if module in _BUILTIN_MODULES and ">" not in name:
        known = legacy and is_legacy(name)
        return None if known else Judgement("scan.keras.class", unknown)
    if module and reaches_out(module, name):
        statement = f"Loading would look up {label}, which no model needs."
        return Judgement("scan.keras.module", statement)
    return Judgement("scan.keras.class", unknown)


def judge_function(
    name: Any, module: Any, registered: Any, allow: frozenset[str]
) -> Judgement | None:
    """Says what loading a function would look up.

    Args:
        name: Its name, whatever stands there.
        module: The `module`, whatever stands there.
        registered: The `registered_name`, whatever stands there.
        allow: Names that the user allows.

    Returns:
        The judgement; None for a function of Keras.
    """
    if not isinstance(name, str) or not isinstance(module, (str, type(None))):
        return Judgement("scan.keras.malformed", "A function has no name that is a string.")
    label = f"{quoted(module)}>{quoted(name)}"
    # Every function is registered as one.
    if (_names(name, module, registered) - {"function"}) & allow:
        return Judgement("scan.keras.allowed", f"{label} was allowed.")
    listed = registered in (None, "function", name, name.rpartition(">")[2])
    if listed and (module is None or module in _FUNCTION_MODULES):
        if name in keras_names.KERAS_FUNCTIONS:
            return None
        return Judgement("scan.keras.class", f"{label} is no function of Keras.")
    if listed and module in _OPERATION_MODULES and name in keras_names.KERAS_OPERATIONS:
        return None
    if module is None or not reaches_out(module, name):
        return Judgement("scan.keras.class", f"{label} is no function of Keras.")
    statement = f"Loading would look up the function {label}, which no model needs."
    return Judgement("scan.keras.function", statement)


def _names(name: str, module: Any, registered: Any) -> set[str]:
    """The names by which Keras could find it."""
    names = {f"{module}>{name}"}
    if not may_import(module, name):
        # Where nothing is registered under that name, Keras goes by module and name.
        names |= {n for n in (registered, name if ">" in name else None) if isinstance(n, str)}
    return names
