import json
import shutil

import keras
import numpy as np
import pytest

from keras_secure.cli.main import main, parse
from keras_secure.errors import InputError, IntegrityError
from keras_secure.export import Facts, diff, export_hardened, inspect
from keras_secure.integrity import generate_key_pair, save_public_key
from keras_secure.layers import InputGuard

PRIVATE_KEY, PUBLIC_KEY = generate_key_pair()


def make_model():
    keras.utils.set_random_seed(2)
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(4, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="top"),
        ],
        name="tiny",
    )


@pytest.fixture(scope="module", params=[True, False], ids=["constants", "variables"])
def bundles(request, tmp_path_factory):
    """A bundle, the same again, and one with another weight, guard and licence."""
    folder, model = tmp_path_factory.mktemp("bundles"), make_model()
    options = {"private_key": PRIVATE_KEY, "constant_weights": request.param}
    made = [
        export_hardened(model, folder / name, facts=Facts(licence="MIT"), **options)
        for name in ("old", "again")
    ]
    kernel = model.get_layer("top").kernel
    kernel.assign(keras.ops.where(kernel > 0, kernel, 0.0))
    made.append(
        export_hardened(
            model,
            folder / "new",
            facts=Facts(licence="Apache-2.0"),
            input_guard=InputGuard(on_violation="reject"),
            **options,
        )
    )
    return made


def named(weights, end):
    (found,) = [weight for name, weight in weights.items() if name.endswith(end)]
    return found


def test_a_summary_tells_the_weights_the_graph_and_who_signed(bundles):
    summary = inspect(bundles[0].path, PUBLIC_KEY)
    kernel = make_model().get_layer("top").kernel.numpy()
    found = named(summary.weights, "top/kernel")
    assert len(summary.weights) == 4
    assert (found.shape, found.dtype, found.zeros) == ((4, 3), "float32", 0.0)
    np.testing.assert_array_equal(found.values, kernel)
    assert found.norm == pytest.approx(np.linalg.norm(kernel.astype("float64")))
    assert named(summary.weights, "top/bias").levels == 1
    assert summary.operations["MatMul"] == 2
    assert summary.bom["specVersion"] == "1.6"
    assert set(summary.files) >= {"bom.json", "model.sig", "saved_model/saved_model.pb"}
    text = "\n".join(summary.describe())
    for part in ("tiny: 43 parameters", "intact and signed by", 'licence: "MIT"', "4, 3]"):
        assert part in text
    assert json.loads(json.dumps(summary.to_dict()))["weights"].keys() == summary.weights.keys()
    assert "not verified" in "\n".join(inspect(bundles[0].path).describe())


def test_the_same_twice_is_identical(bundles):
    found = diff(bundles[0].path, bundles[1].path, PUBLIC_KEY)
    assert found.identical, found.describe()
    assert found.describe() == ["identical: card, bill of materials, graph and weights"]


def test_a_difference_names_what_changed_and_by_how_much(bundles):
    found = diff(bundles[0].path, bundles[2].path, PUBLIC_KEY)
    old = make_model().get_layer("top").kernel.numpy().astype("float64")
    (change,) = found.weights.values()
    assert change["distance"] == pytest.approx(np.linalg.norm(np.minimum(old, 0)))
    assert change["after"]["zeros"] == pytest.approx((old <= 0).mean())
    assert found.card["facts.licence"] == ("MIT", "Apache-2.0")
    assert found.bom["metadata.component.licenses[0].expression"] == ("MIT", "Apache-2.0")
    assert found.card["guards.input.class"] == (None, "InputGuard")
    before, after = found.operations["IsFinite"]
    assert after > before
    lines = "\n".join(found.describe())
    assert "top/kernel: moved by" in lines
    assert not any("serialNumber" in name or "timestamp" in name for name in found.bom)
    assert json.loads(json.dumps(found.to_dict()))["identical"] is False


def test_another_shape_and_another_name_are_told(bundles, tmp_path):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="top")])
    other = export_hardened(model, tmp_path / "other")
    lines = diff(bundles[0].path, other.path).describe()
    assert any("[4, 3] -> [6, 5]" in line or line.endswith("added") for line in lines)
    assert any(line.endswith("removed") for line in lines)


def test_what_is_broken_is_refused(bundles, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(bundles[0].path, broken)
    (broken / "saved_model" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb"):
        inspect(broken, PUBLIC_KEY)
    with pytest.raises(IntegrityError, match="cannot be read"):
        inspect(broken)
    with pytest.raises(IntegrityError, match="not trusted"):
        inspect(bundles[0].path, generate_key_pair()[1])
    with pytest.raises(InputError, match="not a bundle"):
        inspect(tmp_path)


def run(*arguments):
    return main(parse(["keras-secure", *map(str, arguments)]))


def test_the_commands(bundles, tmp_path, capsys):
    old, again, new = (bundle.path for bundle in bundles)
    save_public_key(PUBLIC_KEY, tmp_path / "key.pem")
    trust = ["--trust", tmp_path / "key.pem"]
    assert run("inspect", old, *trust) == 0
    assert "intact and signed" in capsys.readouterr().out
    assert run("inspect", old, "--json") == 0
    assert json.loads(capsys.readouterr().out)["card"]["name"] == "tiny"
    assert run("diff", old, again, *trust) == 0
    assert run("diff", old, new, *trust) == 1
    assert "facts.licence" in capsys.readouterr().out
    assert run("diff", old, new, "--json") == 1
    assert json.loads(capsys.readouterr().out)["card"]["facts.licence"]["after"] == "Apache-2.0"
    shutil.copytree(old, tmp_path / "changed")
    (tmp_path / "changed" / "bom.json").write_text("{}")
    assert run("inspect", tmp_path / "changed", *trust) == 1
    assert "REFUSED" in capsys.readouterr().out
    assert run("diff", old, tmp_path, *trust) == 2
