"""Every kind of finding that a scan can make: how bad it is, what it means, what to do."""

from dataclasses import dataclass

from keras_secure.findings import Severity


@dataclass(frozen=True)
class Rule:
    """One kind of finding.

    Args:
        severity: The usual severity; `"medium"` and more make a scan fail.
        title: What the finding says, in a few words.
        remedy: What to do about it.
    """

    severity: Severity
    title: str
    remedy: str = ""


_REFUSE = "Do not load the file; ask its publisher for a model without it."
_EXPORT = "Export the model again with a current Keras, from a source that you trust."
_DAMAGED = "Get the file again; do not load it: readers disagree about damaged files."

RULES: dict[str, Rule] = {
    # Archives (.keras, .npz and other zip files)
    "scan.archive.malformed": Rule("critical", "Archive that cannot be read", _DAMAGED),
    "scan.archive.traversal": Rule("critical", "Entry that leaves its folder", _REFUSE),
    "scan.archive.symlink": Rule("critical", "Entry that is a link or a special file", _REFUSE),
    "scan.archive.duplicate": Rule("high", "Several entries of one name", _REFUSE),
    "scan.archive.mismatch": Rule("high", "Entry that is described in two ways", _REFUSE),
    "scan.archive.encrypted": Rule("high", "Encrypted entry", _REFUSE),
    "scan.archive.bomb": Rule("critical", "Entry that unfolds beyond measure", _REFUSE),
    "scan.archive.overlap": Rule("critical", "Entries that share bytes", _REFUSE),
    "scan.archive.hidden": Rule("high", "Bytes outside every entry", _REFUSE),
    "scan.archive.compression": Rule("high", "Compression that Keras does not use", _EXPORT),
    "scan.archive.nested": Rule("medium", "Archive within an archive", _REFUSE),
    "scan.archive.unexpected": Rule("medium", "Entry that no model needs", _EXPORT),
    "scan.archive.incomplete": Rule("medium", "Part of the model is missing", _EXPORT),
    # Configurations
    "scan.keras.lambda": Rule(
        "critical",
        "Python code in a Lambda",
        "Do not load the file. Replace the Lambda by a named layer, and export the model again.",
    ),
    "scan.keras.code": Rule("critical", "Python code in the configuration", _REFUSE),
    "scan.keras.function": Rule("critical", "Function by a foreign name", _REFUSE),
    "scan.keras.module": Rule("critical", "Object of a module that is no part of Keras", _REFUSE),
    "scan.keras.unsafe": Rule("critical", "Configuration that switches protection off", _REFUSE),
    "scan.keras.foreign_model": Rule("critical", "Layer that loads another model", _REFUSE),
    "scan.keras.class": Rule(
        "medium",
        "Class that Keras does not ship",
        "Review the code of the class that you install for it, then allow it by its name.",
    ),
    "scan.keras.vocabulary_file": Rule(
        "critical",
        "Vocabulary that is read from a file",
        "Do not load the file. Export the model with its vocabulary, not with the file's path.",
    ),
    "scan.keras.call": Rule("high", "Call that is made while the model is loaded", _REFUSE),
    "scan.keras.path": Rule("high", "Absolute path or address in the configuration", _REFUSE),
    "scan.keras.budget": Rule("high", "Far more parameters declared than stored", _REFUSE),
    "scan.keras.malformed": Rule("high", "Configuration that is none", _EXPORT),
    "scan.keras.own_class": Rule(
        "info", "Class of keras_secure, which must be installed to load the model"
    ),
    "scan.keras.allowed": Rule("info", "Class that was allowed by name"),
    # JSON
    "scan.json.malformed": Rule("high", "JSON that cannot be read", _EXPORT),
    "scan.json.depth": Rule("high", "JSON nested beyond measure", _REFUSE),
    "scan.json.size": Rule("high", "JSON document beyond measure", _REFUSE),
    "scan.json.duplicate_key": Rule("high", "JSON object with one key twice", _REFUSE),
    "scan.json.constant": Rule("medium", "NaN or infinity in JSON", _EXPORT),
    # HDF5
    "scan.hdf5.malformed": Rule("critical", "HDF5 file that cannot be read", _DAMAGED),
    "scan.hdf5.external_link": Rule("critical", "Link into another file", _REFUSE),
    "scan.hdf5.soft_link": Rule("medium", "Soft link", _EXPORT),
    "scan.hdf5.hard_link": Rule("medium", "Object under several names", _EXPORT),
    "scan.hdf5.external_storage": Rule("critical", "Values kept in another file", _REFUSE),
    "scan.hdf5.virtual": Rule("critical", "Values mapped from other files", _REFUSE),
    "scan.hdf5.reference": Rule("medium", "References to other objects", _EXPORT),
    "scan.hdf5.type": Rule("medium", "Type that no weight has", _EXPORT),
    "scan.hdf5.filter": Rule("high", "Filter that needs a plugin", _EXPORT),
    "scan.hdf5.declared_size": Rule("critical", "Shape beyond the stored bytes", _REFUSE),
    "scan.hdf5.bomb": Rule("critical", "Values that unfold beyond measure", _REFUSE),
    "scan.hdf5.hidden": Rule("high", "Bytes outside the HDF5 structure", _REFUSE),
    "scan.hdf5.attribute": Rule("high", "Attribute beyond measure", _REFUSE),
    # NumPy
    "scan.numpy.pickle": Rule("critical", "Pickled objects in an array", _REFUSE),
    "scan.numpy.header": Rule("high", "Array header that NumPy does not write", _DAMAGED),
    "scan.numpy.declared_size": Rule("critical", "Shape that the bytes do not match", _DAMAGED),
    # Values
    "scan.weights.nonfinite": Rule(
        "medium",
        "Weights that are not finite",
        "Do not use the model: its outputs are undefined. Train it again or get an intact copy.",
    ),
    "scan.weights.index": Rule("high", "Index of weights that does not match them", _DAMAGED),
    # SavedModel
    "scan.savedmodel.malformed": Rule("critical", "Graph that cannot be read", _DAMAGED),
    "scan.savedmodel.python_op": Rule("critical", "Operation that runs Python", _REFUSE),
    "scan.savedmodel.file_op": Rule("critical", "Operation that reads or writes files", _REFUSE),
    "scan.savedmodel.network_op": Rule("critical", "Operation that talks to others", _REFUSE),
    "scan.savedmodel.custom_op": Rule("critical", "Operation of an unknown library", _REFUSE),
    "scan.savedmodel.rare_op": Rule(
        "medium",
        "Operation that exported models do not use",
        "Find out what it is for; if the model needs it, allow the operation by its name.",
    ),
    "scan.savedmodel.path": Rule("critical", "File name fixed in the graph", _REFUSE),
    "scan.savedmodel.asset": Rule("critical", "Asset outside the model", _REFUSE),
    "scan.savedmodel.bomb": Rule("critical", "Constant beyond the stored bytes", _REFUSE),
    "scan.savedmodel.device": Rule("medium", "Graph bound to another machine", _EXPORT),
    "scan.savedmodel.text": Rule("high", "Graph in a form that is not inspected", _EXPORT),
    "scan.savedmodel.incomplete": Rule("medium", "Part of the SavedModel is missing", _EXPORT),
    "scan.savedmodel.allowed": Rule("info", "Operation that was allowed by name"),
    # Any file
    "scan.file.pickle": Rule("critical", "Pickle, which runs code when it is loaded", _REFUSE),
    "scan.file.executable": Rule("critical", "Program for a machine", _REFUSE),
    "scan.file.script": Rule("high", "Source code beside the model", "Review it, or remove it."),
    "scan.file.archive": Rule("medium", "Archive that is not inspected", _REFUSE),
    "scan.file.polyglot": Rule("critical", "File of two formats at once", _REFUSE),
    "scan.file.mismatch": Rule("high", "Contents that belie the file's name", _REFUSE),
    "scan.file.unknown": Rule(
        "medium", "Format that the scanner does not know", "Convert the model to .keras."
    ),
    "scan.file.symlink": Rule("high", "Symbolic link", "Replace it by the file itself."),
    "scan.file.special": Rule("critical", "Device, pipe or socket", _REFUSE),
    "scan.file.name": Rule("high", "File name that misleads", "Rename it, or remove it."),
    "scan.file.unreadable": Rule("high", "File that could not be read", "Make it readable."),
    "scan.file.malformed": Rule("critical", "File that its reader choked on", _DAMAGED),
    "scan.file.crash": Rule("critical", "File that ended the process that read it", _REFUSE),
    # Limits
    "scan.limits.time": Rule("critical", "Too much time", "Do not load it, or raise the limit."),
    "scan.limits.memory": Rule(
        "critical", "Too much memory", "Do not load it, or raise the limit."
    ),
    "scan.limits.files": Rule("high", "Too many files", "Do not load it, or raise the limit."),
    "scan.limits.findings": Rule("info", "Further findings of one kind"),
}
"""Rules by identifier."""
