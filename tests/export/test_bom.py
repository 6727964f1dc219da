import hashlib
import json

import keras
import numpy as np
import pytest

from keras_secure import attacks
from keras_secure.errors import InputError
from keras_secure.export import Dataset, Facts, data_digest, export_hardened
from keras_secure.integrity import generate_key_pair
from keras_secure.privacy import Phase, PoissonSampling, privacy_statement
from keras_secure.watermark import SpreadSpectrum, commit


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    layers = [keras.Input((200,)), keras.layers.Dense(3, activation="softmax")]
    return keras.Sequential(layers, name="tiny")


@pytest.fixture(scope="module")
def told(model, tmp_path_factory):
    x = np.random.default_rng(0).random((20, 200)).astype("float32")
    y = np.arange(20) % 3
    report = attacks.evaluate(model, x, y, [attacks.FGSM(epsilon=0.1)])
    phase = Phase(PoissonSampling(0.01, 6000), 1.1, 1.0, 60, steps=200)
    secret, _ = generate_key_pair()
    mark = SpreadSpectrum("a key of more than sixteen bytes", num_bits=16)
    commitment = commit(mark, model, secret)
    facts = Facts(
        description="Tells three things apart.",
        version="1.2",
        task="classification",
        training={"attack": "PGD", "epochs": 3},
        robustness=report,
        privacy=[phase],
        target_delta=1e-5,
        watermark=commitment,
        licence="Apache-2.0",
        datasets=[Dataset("digits", data_digest(x, y), licence="CC-BY-4.0", num_examples=20)],
        limitations=["Not for handwriting."],
    )
    bundle = export_hardened(
        model, tmp_path_factory.mktemp("bom") / "bundle", facts=facts, private_key=secret
    )
    return bundle, report, commitment, phase


def test_the_card_says_what_was_told(told):
    bundle, report, commitment, phase = told
    facts = bundle.card["facts"]
    assert facts["training"] == {"attack": "PGD", "epochs": 3}
    assert facts["robustness"]["clean"] == report.clean.to_dict()
    assert facts["robustness"]["worst_case"]["low"] == report.worst_case.low
    assert facts["privacy"]["statement"] == privacy_statement([phase], 1e-5)
    assert 0.1 < facts["privacy"]["epsilon"] < 2
    assert facts["watermark"]["commitment"] == commitment.digest
    assert facts["datasets"][0]["num_examples"] == 20
    assert json.loads((bundle.path / "model_card.json").read_text()) == bundle.card


def test_the_bill_of_materials_lists_everything(told):
    bundle, report, commitment, _ = told
    bom = json.loads((bundle.path / "bom.json").read_text())
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    model = bom["metadata"]["component"]
    assert (model["name"], model["version"]) == ("tiny", "1.2")
    assert model["licenses"] == [{"expression": "Apache-2.0"}]
    metrics = {
        each["slice"]: each
        for each in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    assert metrics["clean"]["confidenceInterval"]["upperBound"] == str(report.clean.high)
    name = f"{report.attacks[0].name}, linf of 0.1"
    assert metrics[name]["value"] == str(report.attacks[0].accuracy.value)
    properties = {each["name"]: each["value"] for each in model["properties"]}
    assert properties["keras_secure:watermark:commitment"] == commitment.digest
    files = {c["name"]: c["hashes"][0]["content"] for c in bom["components"] if c["type"] == "file"}
    there = {
        path.relative_to(bundle.path).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in bundle.path.rglob("*")
        if path.is_file() and path.name not in ("bom.json", "model.sig")
    }
    assert files == there
    packages = {c["purl"] for c in bom["components"] if c["type"] == "library"}
    assert f"pkg:pypi/keras@{keras.__version__}" in packages
    (data,) = [c for c in bom["components"] if c["type"] == "data"]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": data["bom-ref"]}]
    references = [model["bom-ref"], *(c["bom-ref"] for c in bom["components"])]
    assert len(set(references)) == len(references)
    assert {each["ref"] for each in bom["dependencies"]} == set(references)


def test_the_bill_of_materials_is_valid_cyclonedx(told, model, tmp_path):
    pytest.importorskip("cyclonedx", reason="needs cyclonedx-python-lib[json-validation]")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    bare = export_hardened(model, tmp_path / "bare", facts=Facts(licence="Ask the owner"))
    for bundle in (told[0], bare):
        text = (bundle.path / "bom.json").read_text()
        assert validator.validate_str(text) is None
    wrong = text.replace('"machine-learning-model"', '"model"')
    assert validator.validate_str(wrong) is not None


def test_digests_of_data_see_every_part():
    x = np.arange(6.0).reshape(2, 3)
    digest = data_digest(x)
    assert data_digest(np.asfortranarray(x)) == digest
    assert data_digest(x.astype(">f8")) == digest
    others = [data_digest(x.reshape(3, 2)), data_digest(x.astype("float32")), data_digest(x, x)]
    assert len({digest, *others}) == 4
    with pytest.raises(InputError, match="objects"):
        data_digest(np.array([{}]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"privacy": []}, "needs target_delta"),
        ({"watermark": "secret"}, "Commitment"),
        ({"datasets": ["mnist"]}, "other than keras_secure.export.Dataset"),
        ({"limitations": "none"}, "list of sentences"),
    ],
)
def test_facts_of_another_kind_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Facts(**wrong)
    with pytest.raises(InputError, match="hexadecimal"):
        Dataset("mnist", "abc")


def test_facts_that_json_cannot_hold(model, tmp_path):
    with pytest.raises(InputError, match=r"facts\['training'\]\['optimizer'\]"):
        export_hardened(model, tmp_path / "b", facts=Facts(training={"optimizer": object()}))
    with pytest.raises(InputError, match="Give private_key too"):
        export_hardened(model, tmp_path / "b", parity=0.1)
    assert not any(tmp_path.iterdir())
