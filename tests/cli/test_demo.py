"""The whole demo: small runs of every stage, and the real one with `-m slow`."""

import contextlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_secure
from keras_secure import integrity, leakage, watermark
from keras_secure.audit.wording import number, percent
from keras_secure.cli import main
from keras_secure.cli.data import load_npz
from keras_secure.cli.demo import plan, training
from keras_secure.cli.demo.plan import Plan

TINY = Plan(
    epsilon=0.1,
    epsilons=(0.1, 0.2),
    plain_epochs=4,
    robust_epochs=12,
    private_epochs=2,
    batch_size=32,
    private_batch_size=60,
    attack_steps=3,
    attack_restarts=1,
    num_attacked=40,
)

# Privacy losses are dear to account for where the noise is small.
STRICT = ["--target-epsilon", "0.3"]

FILES = [
    "bundle/model.sig",
    "bundle/model_card.json",
    "bundle/saved_model/saved_model.pb",
    "models/plain.keras",
    "models/private.keras",
    "models/robust.keras",
    "public_key.pem",
    "report.html",
    "report.json",
    "report.md",
    "secrets/signing_key.pem",
    "secrets/watermark_key.txt",
]


def striped_images():
    """300 images of 6x6 and 3 classes that differ in which rows are light."""
    generator = np.random.default_rng(0)
    y = np.arange(300) % 3
    x = generator.uniform(0, 0.4, (300, 6, 6)).astype("float32")
    for label in range(3):
        x[y == label, 2 * label : 2 * label + 2] += 0.6
    return x, y


def clustered_table():
    """300 rows of 10 features, three clusters on an arbitrary scale."""
    generator = np.random.default_rng(0)
    y = np.arange(300) % 3
    centres = generator.normal(0, 50, (3, 10))
    return (centres[y] + generator.normal(0, 5, (300, 10))).astype("float32"), y


class Demo:
    """One finished run: where it wrote, what it printed, what it reports."""

    def __init__(self, arguments, folder, make_plan=None):
        self.folder, printed = folder / "out", io.StringIO()
        arguments = [*arguments, "--output", str(self.folder)]
        with pytest.MonkeyPatch.context() as patch:
            if make_plan:
                patch.setattr(plan, "make_plan", make_plan)
            with contextlib.redirect_stdout(printed):
                options = main.parse(["keras-secure", "demo", *arguments])
                self.code = main.main(options)
        self.beside = sorted(path.name for path in folder.iterdir())
        self.printed = printed.getvalue()
        self.report = json.loads((self.folder / "report.json").read_text())

    def curve(self, name):
        return {point["epsilon"]: point for point in self.report["robustness"]["curves"][name]}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    x, y = striped_images()
    np.savez(folder / "stripes.npz", x=x, y=y)
    return Demo([*STRICT, "--data", str(folder / "stripes.npz")], folder, lambda *arguments: TINY)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    x, y = clustered_table()
    np.savez(folder / "table.npz", x=x, y=y)
    return Demo([*STRICT, "--data", str(folder / "table.npz")], folder, lambda *arguments: TINY)


def assert_sound(demo):
    """What holds of every run, whatever its data and however short its training."""
    report = demo.report
    assert demo.code == 0
    assert [name for name in FILES if not (demo.folder / name).is_file()] == []
    assert set(report["models"]) == {"plain", "robust", "private"}
    tamper = report["integrity"]["tamper"]
    assert report["integrity"]["verified"] is True
    assert tamper["detected"] is True
    assert tamper["named"] == tamper["file"]
    assert (demo.folder / "bundle" / tamper["file"]).is_file()
    assert report["serving"]["max_difference"] <= 1e-5
    assert report["serving"]["nan_handled"] is True
    assert report["serving"]["out_of_range_handled"] is True
    privacy = report["privacy"]
    assert 0 < privacy["epsilon"] <= privacy["target_epsilon"]
    assert privacy["target_delta"] <= 1 / report["data"]["num_train"]
    spent = [point["epsilon"] for point in privacy["burn_down"]]
    assert spent == sorted(spent)
    assert spent[-1] == pytest.approx(privacy["epsilon"])
    for curve in report["robustness"]["curves"].values():
        accuracies = [point["accuracy"] for point in curve]
        assert accuracies == sorted(accuracies, reverse=True)
        assert all(point["low"] <= point["accuracy"] <= point["high"] for point in curve)


def test_a_run_on_images(images):
    assert_sound(images)
    assert images.beside == ["out", "stripes.npz"]
    assert images.report["watermark"]["ber"] == 0.0
    assert images.report["data"]["shape"] == [6, 6, 1]
    assert images.report["models"]["plain"]["accuracy"] > 0.8


def test_a_run_on_a_table(table):
    assert_sound(table)
    assert table.beside == ["out", "table.npz"]
    assert "adversarial_examples" not in table.report
    assert any("scaled" in note for note in table.report["data"]["notes"])


def test_the_summary_and_where_to_look_are_printed(images):
    for name in ("plain", "robust", "private", "watermark", "integrity", "report.html", "bundle"):
        assert name in images.printed
    for stage in ("plain training", "robust training", "private training", "attacking the plain"):
        assert stage in images.printed


def test_only_the_owner_reads_the_secrets(images):
    secrets = images.folder / "secrets"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()}
    assert modes == {"signing_key.pem": 0o600, "watermark_key.txt": 0o600}


def test_no_secret_is_anywhere_else(images):
    mark_key = (images.folder / "secrets" / "watermark_key.txt").read_text().strip()
    pem = (images.folder / "secrets" / "signing_key.pem").read_text().splitlines()[1]
    assert len(mark_key) == 32
    others = [
        path
        for path in images.folder.rglob("*")
        if path.is_file() and path.parent.name != "secrets"
    ]
    assert len(others) >= len(FILES) - 2
    for path in others:
        content = path.read_bytes()
        assert mark_key.encode() not in content
        assert pem.encode() not in content


def test_the_kept_secrets_are_the_ones_that_prove(images):
    private = integrity.load_private_key(images.folder / "secrets" / "signing_key.pem")
    public = integrity.load_public_key(images.folder / "public_key.pem")
    assert integrity.fingerprint(private.public_key()) == integrity.fingerprint(public)
    assert integrity.verify(images.folder / "bundle", public).ok
    key = (images.folder / "secrets" / "watermark_key.txt").read_text().strip()
    model = keras.saving.load_model(images.folder / "models" / "robust.keras")
    found = watermark.verify(
        model, watermark.SpreadSpectrum(key, num_bits=64), layers=training.MARKED_LAYER
    )
    assert found.bit_error_rate == images.report["watermark"]["ber"]
    assert found.p_value == pytest.approx(images.report["watermark"]["p_value"])


def test_the_report_needs_nothing_from_outside(images):
    html = (images.folder / "report.html").read_text()
    assert "default-src 'none'" in html
    # Names of XML vocabularies are never fetched.
    without_names = re.sub(r'xmlns(:\w+)?="[^"]*"', "", html)
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", without_names) == []
    assert re.findall(r"<(?:script|link|iframe|object|embed)\b", html) == []
    targets = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', html)
    assert targets
    assert all(target.startswith(("#", "data:image/")) for target in targets)


def test_every_figure_of_the_summary_is_on_the_page(images):
    html = (images.folder / "report.html").read_text()
    text = re.sub(r"<[^>]+>", "", re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    report = images.report
    figures = [percent(model["accuracy"]) for model in report["models"].values()]
    figures += [
        percent(point["accuracy"])
        for curve in report["robustness"]["curves"].values()
        for point in curve
    ]
    figures += [f"{found['auc']:.3f}" for found in report["membership"].values()]
    figures += [number(report["privacy"][key]) for key in ("epsilon", "target_delta")]
    figures += [percent(report["watermark"]["ber"]), number(report["watermark"]["p_value"])]
    figures += [number(report["serving"]["max_difference"]), report["integrity"]["tamper"]["file"]]
    assert [figure for figure in figures if figure not in text] == []
    printed = images.printed.split("attacking the private model")[1]
    assert [f for f in re.findall(r"\d+\.\d+%", printed) if f not in text] == []


def test_the_figures_are_those_of_the_saved_models(images):
    x, y = striped_images()
    np.savez(images.folder.parent / "again.npz", x=x, y=y)
    dataset = load_npz(images.folder.parent / "again.npz")
    for name, measured in images.report["models"].items():
        model = keras.saving.load_model(images.folder / "models" / f"{name}.keras")
        predicted = np.argmax(model.predict(dataset.x_test, verbose=0), axis=1)
        assert measured["accuracy"] == pytest.approx(np.mean(predicted == dataset.y_test))
        losses = leakage.membership_losses(model, dataset.x_train, dataset.y_train)
        reported = images.report["membership"][name]["mean_member_loss"]
        assert reported == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_models_load_where_this_library_is_not(images, tmp_path):
    script = tmp_path / "load.py"
    script.write_text(
        "import sys\n"
        "sys.modules['keras_secure'] = None\n"
        "import keras\n"
        "for path in sys.argv[1:]:\n"
        "    model = keras.saving.load_model(path)\n"
        "    print(type(model).__name__, model.count_params())\n"
    )
    paths = sorted((images.folder / "models").glob("*.keras"))
    finished = subprocess.run(
        [sys.executable, script, *paths], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    count = images.report["models"]["plain"]["num_parameters"]
    assert finished.stdout.splitlines() == [f"Sequential {count}"] * 3


def test_the_verify_command_agrees(images, capsys, tmp_path):
    key = str(images.folder / "public_key.pem")
    command = ["keras-secure", "verify", str(images.folder / "bundle"), "--trust", key]
    assert main.main(main.parse(command)) == 0
    assert capsys.readouterr().out.startswith("OK: ")
    card = images.folder / "bundle" / "model_card.json"
    original = card.read_bytes()
    card.write_bytes(original.replace(b"a", b"b", 1))
    try:
        assert main.main(main.parse(command)) == 1
        assert "model_card.json" in capsys.readouterr().out
    finally:
        card.write_bytes(original)


@pytest.mark.parametrize(
    ("quick", "size"), [(True, 1437), (False, 1437), (False, 60000), (False, 50)]
)
def test_a_plan_measures_in_ascending_order_and_never_more_than_there_is(quick, size):
    class Sized:
        name = "digits"
        x_train, x_test = range(size), range(size // 4)

    sizes = plan.make_plan(Sized, quick)
    assert list(sizes.epsilons) == sorted(set(sizes.epsilons))
    assert sizes.epsilon in sizes.epsilons
    assert sizes.num_attacked <= size // 4
    assert sizes.private_batch_size <= size
    assert min(sizes.plain_epochs, sizes.robust_epochs, sizes.private_epochs) >= 1
    assert plan.target_delta(size) <= 1 / size


@pytest.mark.parametrize("epsilon", [1e-4, 8 / 255, 0.7, 1.0])
def test_a_plan_for_any_attack_size(epsilon):
    class Sized:
        name = "mine"
        x_train, x_test = range(100), range(20)

    epsilons = plan.make_plan(Sized, False, epsilon).epsilons
    assert epsilons[0] > 0
    assert epsilons[-1] <= 1
    assert list(epsilons) == sorted(set(epsilons))
    assert any(value == pytest.approx(epsilon, rel=1e-3) for value in epsilons)


def test_control_c_during_training_leaves_nothing(tmp_path):
    x, y = striped_images()
    np.savez(tmp_path / "stripes.npz", x=x, y=y)
    place, scratch = tmp_path / "place", tmp_path / "scratch"
    place.mkdir()
    scratch.mkdir()
    arguments = ["demo", "--data", "../stripes.npz", "--output", "out"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "keras_secure.cli.main", *arguments],
        cwd=place,
        env={
            **os.environ,
            "TMPDIR": str(scratch),
            "PYTHONPATH": str(Path(keras_secure.__file__).parents[1]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        # What is printed as training begins; the dozens of epochs take far longer than the pause.
        for line in process.stdout:
            if line.startswith("private training"):
                break
        during = [path.name for path in place.iterdir()]
        temporary = list(scratch.iterdir())
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=300)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert [line for line in error.splitlines() if line.startswith("keras-secure")] == [
        "keras-secure: interrupted; nothing was written."
    ]
    assert "Traceback" not in error
    assert len(during) == 1
    assert during[0].endswith(".part")
    assert temporary
    assert list(place.iterdir()) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.slow
def test_the_quick_demo_on_digits(tmp_path):
    demo = Demo(["--quick"], tmp_path)
    assert_sound(demo)
    assert demo.beside == ["out"]
    assert demo.report["watermark"]["ber"] == 0.0
    assert len(demo.report["adversarial_examples"]) == 8
    plain, robust = demo.curve("plain"), demo.curve("robust")
    assert plain[0.15]["accuracy"] < 0.3
    assert robust[0.15]["low"] > plain[0.15]["high"]
    assert robust[0.15]["accuracy"] - plain[0.15]["accuracy"] > 0.3
    for name in ("plain", "robust", "private"):
        assert demo.report["models"][name]["accuracy"] > 0.85


@pytest.mark.slow
def test_the_full_demo_on_digits_gains_forty_points(tmp_path):
    demo = Demo([], tmp_path)
    assert_sound(demo)
    assert demo.report["watermark"]["ber"] == 0.0
    assert "50 steps, 5 restarts" in demo.report["robustness"]["attack"]
    plain, robust = demo.curve("plain"), demo.curve("robust")
    gains = [
        robust[epsilon]["accuracy"] - point["accuracy"]
        for epsilon, point in plain.items()
        if epsilon and point["accuracy"] < 0.3
    ]
    assert max(gains) >= 0.4
    models = demo.report["models"]
    assert models["robust"]["accuracy"] >= models["plain"]["accuracy"] - 0.04
