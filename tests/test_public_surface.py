"""What is exported is what is listed, and what is listed is documented."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import keras
import pytest
import setuptools

import keras_secure
from keras_secure import errors, registration

ROOT = Path(keras_secure.__file__).parents[1]

ROOMS = [
    "attacks",
    "audit",
    "callbacks",
    "certification",
    "compression",
    "detection",
    "export",
    "integrity",
    "layers",
    "leakage",
    "objectives",
    "optimizers",
    "privacy",
    "repair",
    "serving",
    "training",
    "watermark",
]

# What a function returns, or a class is handed, is shown where that function or class is.
SHOWN_BY = {
    "attacks.Candidates": "attacks.IterativeAttack",
    "attacks.Problem": "attacks.IterativeAttack",
    "attacks.RobustnessReport": "attacks.evaluate",
    "attacks.TrustReport": "attacks.trust_check",
    "audit.CompressionReport": "audit.compare_compressed",
    "compression.ClusteredWeight": "compression.clustered_weights",
    "compression.CompressedConv1D": "compression.quantize_aware",
    "compression.CompressedConv1DTranspose": "compression.quantize_aware",
    "compression.CompressedConv2D": "compression.quantize_aware",
    "compression.CompressedConv2DTranspose": "compression.quantize_aware",
    "compression.CompressedConv3D": "compression.quantize_aware",
    "compression.CompressedConv3DTranspose": "compression.quantize_aware",
    "compression.CompressedDense": "compression.quantize_aware",
    "compression.CompressedDepthwiseConv1D": "compression.quantize_aware",
    "compression.CompressedDepthwiseConv2D": "compression.quantize_aware",
    "compression.CompressedEinsumDense": "compression.quantize_aware",
    "compression.CompressedSeparableConv1D": "compression.quantize_aware",
    "compression.CompressedSeparableConv2D": "compression.quantize_aware",
    "compression.QuantizedWeight": "compression.quantized_weights",
    "export.Bundle": "export.open_bundle",
    "export.BundleDifference": "export.diff",
    "export.BundleSummary": "export.inspect",
    "integrity.RepairReport": "integrity.repair",
    "integrity.Revocation": "integrity.Trust",
    "integrity.RollbackReport": "integrity.rollback",
    "integrity.TrustedKey": "integrity.Trust",
    "integrity.current": "integrity.publish",
    "integrity.VerificationReport": "integrity.verify",
    "integrity.ScanReport": "integrity.scan",
    "leakage.Contradiction": "leakage.threshold_membership_attack",
    "leakage.Guesses": "leakage.OneRunAudit",
    "leakage.MembershipReport": "leakage.threshold_membership_attack",
    "leakage.OneRunReport": "leakage.OneRunAudit",
    "leakage.OperatingPoint": "leakage.threshold_membership_attack",
    "privacy.Contribution": "privacy.register_rule",
    "privacy.Materialized": "privacy.register_rule",
    "privacy.OuterProducts": "privacy.register_rule",
    "privacy.Rows": "privacy.register_rule",
    "privacy.Phase": "privacy.epsilon",
    "privacy.PoissonSampling": "privacy.epsilon",
    "repair.HardeningReport": "repair.harden",
    "serving.AuditLogReport": "serving.verify_audit_log",
    "serving.Query": "serving.Observer",
    "watermark.EmbeddingReport": "watermark.embed_triggers",
    "watermark.TriggerReport": "watermark.verify_triggers",
    "watermark.Alignment": "watermark.align",
    "watermark.AlignmentReport": "watermark.align",
    "watermark.EmpiricalNull": "watermark.empirical_null",
    "watermark.MatchedUnits": "watermark.align",
    "watermark.verify_claim": "watermark.commit",
    "watermark.Commitment": "watermark.commit",
    "watermark.Embedded": "watermark.embed",
    "watermark.Reading": "watermark.verify",
    "watermark.WatermarkReport": "watermark.verify",
}

# Plain values and one search, whose arguments say it all.
WITHOUT_EXAMPLE = {
    "privacy.ClippedSum",
    "privacy.Ledger",
    "privacy.UnstatedSampling",
    "privacy.max_steps",
}


def room(name):
    return importlib.import_module(f"keras_secure.{name}")


# A view of a model for an evaluation, which is never saved.
NEVER_SAVED = {"attacks.Expectation"}


def public_names():
    return [f"{name}.{public}" for name in ROOMS for public in room(name).__all__]


def find(dotted):
    name, public = dotted.split(".")
    return getattr(room(name), public)


def own_docstring(thing):
    # Of the thing itself: a docstring inherited from Keras says nothing about it.
    return thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__


def style_sorted(names):
    """Constants, then classes, then functions: the order that the linter holds (RUF022)."""
    return sorted(names, key=lambda name: (kind(name), name))


def kind(name):
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


def test_every_room_is_public_and_every_public_room_is_here():
    modules = [
        name for name in keras_secure.__all__ if inspect.ismodule(getattr(keras_secure, name))
    ]
    assert modules == sorted([*ROOMS, "errors"])


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_lists_what_it_has_in_order(name):
    listed = room(name).__all__
    assert listed == style_sorted(set(listed))
    assert [public for public in listed if not hasattr(room(name), public)] == []
    assert room(name).__doc__


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_exports_nothing_that_it_does_not_list(name):
    module = room(name)
    unlisted = [
        public
        for public, value in vars(module).items()
        if not public.startswith("_")
        and public not in module.__all__
        and not inspect.ismodule(value)
    ]
    assert unlisted == []


def test_the_package_lists_what_it_has_in_order():
    assert keras_secure.__all__ == sorted(keras_secure.__all__)
    assert dir(keras_secure) == keras_secure.__all__
    assert all(getattr(keras_secure, name) is not None for name in keras_secure.__all__)


@pytest.mark.parametrize("dotted", public_names())
def test_every_public_name_is_documented(dotted):
    text = own_docstring(find(dotted))
    assert text, f"keras_secure.{dotted} has no docstring"
    if dotted in WITHOUT_EXAMPLE:
        return
    shown = own_docstring(find(SHOWN_BY.get(dotted, dotted)))
    assert ">>> " in shown, f"the docstring of keras_secure.{dotted} has no example"


@pytest.mark.parametrize("dotted", public_names())
def test_no_docstring_names_an_argument_that_is_not_there(dotted):
    thing = find(dotted)
    _, _, rest = inspect.cleandoc(own_docstring(thing)).partition("Args:\n")
    if not rest:
        return
    section = rest.split("\n\n")[0]
    named = [
        name.strip(" *`")
        for line in section.splitlines()
        if line.startswith("    ") and not line.startswith("     ") and ":" in line
        for name in line.split(":")[0].split(",")
    ]
    assert named, f"the Args of keras_secure.{dotted} name nothing"
    parameters = inspect.signature(thing).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    assert [name for name in named if name not in parameters] == []


def test_exemptions_are_of_names_that_exist():
    names = set(public_names())
    assert set(SHOWN_BY) <= names
    assert set(SHOWN_BY.values()) <= names
    assert names >= WITHOUT_EXAMPLE


def test_every_component_is_exported_by_its_room():
    ours = {
        dotted: cls
        for dotted, cls in registration.COMPONENTS.items()
        if cls.__module__.startswith("keras_secure.")
    }
    assert len(ours) >= 17
    assert [dotted for dotted in ours if dotted not in public_names()] == []
    for dotted, cls in ours.items():
        assert find(dotted) is cls
        registered = keras.saving.get_registered_name(cls)
        assert registered == f"keras_secure>{cls.__name__}"
        assert keras.saving.get_registered_object(registered) is cls


def test_what_keras_must_load_is_a_component():
    """A public layer, optimizer or regularizer that is not registered could not be loaded."""
    bases = (keras.layers.Layer, keras.optimizers.Optimizer, keras.regularizers.Regularizer)
    found = {
        dotted
        for dotted in public_names()
        if inspect.isclass(find(dotted)) and issubclass(find(dotted), bases)
    }
    assert len(found) >= 11
    assert found - NEVER_SAVED <= set(registration.COMPONENTS)
    assert not NEVER_SAVED & set(registration.COMPONENTS)


def test_errors_are_public_documented_and_of_one_family():
    classes = [value for name, value in vars(errors).items() if inspect.isclass(value)]
    assert len(classes) >= 7
    for cls in classes:
        assert cls.__doc__
        assert cls.__module__ == "keras_secure.errors"
        assert issubclass(cls, (errors.SecurityError, UserWarning))


def test_an_unknown_name_is_answered_with_the_known():
    with pytest.raises(AttributeError, match=r"'attack'.*attacks.*watermark"):
        keras_secure.attack  # noqa: B018  (looking it up is what is tested)


@pytest.mark.parametrize("name", ["callbacks", "layers"])
def test_links_at_the_top_lead_to_the_rooms(name):
    link = ROOT / name
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("this is an installed package, which has no links")
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert link.resolve() == ROOT / "keras_secure" / name


def test_installing_adds_one_import_name():
    provided = [
        name
        for name, distributions in metadata.packages_distributions().items()
        if "keras-secure" in distributions
    ]
    assert provided == ["keras_secure"]


def test_the_wheel_is_made_of_one_package_and_all_its_rooms():
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("this is an installed package, which has no build settings")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    find_settings = settings["tool"]["setuptools"]["packages"]["find"]
    packages = setuptools.find_packages(str(ROOT), **find_settings)
    assert {name.split(".")[0] for name in packages} == {"keras_secure"}
    with_code = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "keras_secure").rglob("*.py")
    }
    assert set(packages) == with_code


def test_rooms_load_by_attribute_in_a_fresh_process():
    """Nobody imported `keras_secure.audit` here; the attribute must do."""
    code = (
        "import keras_secure as ks, sys\n"
        "assert 'keras_secure.audit' not in sys.modules\n"
        "print(ks.audit.write_report.__module__, ks.errors.InputError.__name__)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.stdout.split() == ["keras_secure.audit.write", "InputError"], finished.stderr
