"""The register of malicious kinds: what each is, what it would do, and to whom."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KINDS: dict[str, "Kind"] = {}


@dataclass(frozen=True)
class Kind:
    """One way for a model file to be harmful.

    Args:
        name: Of the kind.
        family: Which changes its variants may have; a key of `variants.CHANGES`.
        harm: `"code"` runs what the file says, `"files"` reads or writes files elsewhere or the
            network, `"resources"` exhausts memory or disk, `"archive"` misplaces what is stored or
            makes readers disagree about it, `"weights"` makes the model useless.
        build: Writes the file or folder of a variant into a folder and returns its path.
        effect: Where such files have, or had, their effect, by the advisory or by what the readers
            do. It is the pattern that a scanner must know; whether this very file runs under some
            Keras is printed by `benchmarks/scan_corpus_effects.py`.
        cve: The known hole that it is an instance of, if any.
        fixed: Changes that variants of this kind cannot have.
    """

    name: str
    family: str
    harm: str
    build: Callable[..., Path]
    effect: str
    cve: str = ""
    fixed: tuple[str, ...] = ()


def kind(name, family, harm, effect, cve="", fixed=()):
    """Registers a function `(folder, variant) -> path` as a kind."""

    def register(build):
        assert name not in KINDS, name
        KINDS[name] = Kind(name, family, harm, build, effect, cve, tuple(fixed))
        return build

    return register
