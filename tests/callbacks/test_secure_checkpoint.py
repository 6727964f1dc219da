"""SecureCheckpoint: goes on exactly where it was, and from nothing that is not proven."""

import json
import os
import shutil
import subprocess
import sys

import harness_secure_crash
import keras
import numpy as np
import pytest
from harness_callbacks import run_callback_harness
from keras import layers

import keras_secure as ks
from keras_secure.callbacks import PrivacyJournal, SecureCheckpoint
from keras_secure.callbacks.best_checkpoint import BestCheckpoint
from keras_secure.errors import InputError, IntegrityError, PrivacyError, PrivacyWarning
from keras_secure.integrity import generate_identity, generate_key_pair, sign, verify

PRIVATE, PUBLIC = generate_key_pair()
X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class CrashError(Exception):
    """Stands for the end of the process."""


class Crash(keras.callbacks.Callback):
    def __init__(self, epoch, batch=0):
        super().__init__()
        self.place, self.epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise CrashError


def new_model(optimizer=None):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5, seed=3), layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), loss=loss)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, *callbacks, epochs=3):
    model.fit(
        X, Y, batch_size=8, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
    )
    return state(model)


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def begin(checkpoint, model=None):
    """What `fit` does before its first step."""
    checkpoint.set_model(model or new_model())
    checkpoint.on_train_begin()
    return checkpoint.model


def save(checkpoint, model, *steps, **logs):
    """Saves as after an epoch at each of the steps, without training to them."""
    begin(checkpoint, model)
    for epoch, step in enumerate(steps):
        model.optimizer.iterations.assign(step)
        checkpoint.on_epoch_end(epoch, {name: values[epoch] for name, values in logs.items()})
    return checkpoint


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 50)),
    "accumulation": lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.RMSprop(), initial_scale=8.0, dynamic_growth_steps=2
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumes_exactly(tmp_path, name):
    unbroken = fit(new_model(OPTIMIZERS[name]()))
    secret = {} if name == "adam" else {"key": bytes(32)}
    model = new_model(OPTIMIZERS[name]())
    with pytest.raises(CrashError):
        fit(model, SecureCheckpoint(tmp_path, PRIVATE, **secret), Crash(2, 1))
    assert not same(state(model), unbroken)
    checkpoint = SecureCheckpoint(tmp_path, PRIVATE, **secret)
    assert same(fit(new_model(OPTIMIZERS[name]()), checkpoint), unbroken)
    assert checkpoint.resumed == {"epoch": 2, "batch": 0, "steps": 6}
    assert [path.name for path in checkpoint.checkpoints()] == [
        "step-000000000009",
        "step-000000000006",
    ]
    for path in checkpoint.checkpoints():
        assert verify(path, PUBLIC).ok
        assert (path / "state.weights.h5").exists() == (not secret)


def test_resumes_within_an_epoch(tmp_path):
    with pytest.raises(CrashError):
        fit(new_model(), SecureCheckpoint(tmp_path, PRIVATE, save_freq=2), Crash(1, 2))
    checkpoint = SecureCheckpoint(tmp_path, PRIVATE, save_freq=2)
    model = begin(checkpoint)
    assert checkpoint.resumed == {"epoch": 1, "batch": 1, "steps": 4}
    assert int(model.optimizer.iterations) == 4
    fit(model, checkpoint)  # the second epoch is made again, from the model's own state
    assert checkpoint.resumed is None
    assert int(model.optimizer.iterations) == 4 + 6


@pytest.mark.slow
def adapted_model(quantized):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(2)])
    if quantized:
        model.quantize("int8")
    for layer in model.layers:
        layer.enable_lora(2)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("options", [{}, {"key": bytes(32)}])
def test_adapters_go_on_training(quantized, options, tmp_path):
    def checkpoint():
        return SecureCheckpoint(tmp_path / "run", PRIVATE, **options)

    whole = fit(adapted_model(quantized))
    with pytest.raises(CrashError):
        fit(adapted_model(quantized), checkpoint(), Crash(epoch=2))
    resumed = adapted_model(quantized)
    assert same(fit(resumed, checkpoint()), whole)
    fresh = adapted_model(quantized)
    checkpoint().load(fresh)
    assert same(fresh.get_weights(), resumed.get_weights())


def test_another_model_is_refused_in_few_words(tmp_path):
    fit(new_model(), SecureCheckpoint(tmp_path, PRIVATE), epochs=1)
    wider = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    unbuilt = keras.Sequential([layers.Dense(2)])
    adapted = new_model()
    adapted.layers[-1].enable_lora(1)
    for model, match in (
        (wider, "does not fit this model"),
        (adapted, "does not fit this model"),
        (unbuilt, "Call the model once on data"),
    ):
        model.compile("sgd", "mse")
        for load in (
            lambda model: begin(SecureCheckpoint(tmp_path, PRIVATE), model),
            SecureCheckpoint(tmp_path, PRIVATE).load,
        ):
            with pytest.raises(InputError, match=match) as caught:
                load(model)
            assert len(str(caught.value)) < 1000


def test_a_place_that_holds_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/run"):
        with pytest.raises(InputError, match="No folder for checkpoints can be made"):
            fit(new_model(), SecureCheckpoint(tmp_path / place, PRIVATE))


def test_fits_in_every_way_of_training(digits, tmp_path):
    folders = iter(range(100))
    run_callback_harness(
        lambda: SecureCheckpoint(tmp_path / f"saved {next(folders)}", PRIVATE),
        (digits[0][:24], digits[1][:24]),
        tmp_path,
        measures_only=True,
    )


# -- tampering --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """Checkpoints at steps 3 and 6, made once."""
    folder = tmp_path_factory.mktemp("two")
    save(SecureCheckpoint(folder, PRIVATE), new_model(), 3, 6)
    return folder


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def exchange(newest, older):
    shutil.rmtree(newest)
    shutil.copytree(older, newest)


def sign_by_another(newest, older):
    sign(newest, generate_key_pair()[0])


def sign_partly(newest, older):
    (newest / "progress.json").write_text(json.dumps({"epoch": 9, "batch": 0, "steps": 6}))
    shutil.copy(older / "model.sig", newest)


def link(newest, older):
    weights = newest / "state.weights.h5"
    weights.rename(newest.parent / "elsewhere")
    weights.symlink_to(newest.parent / "elsewhere")


TAMPERING = {
    "weights": (lambda n, o: flip(n / "state.weights.h5"), "'state.weights.h5' was changed"),
    "progress": (lambda n, o: flip(n / "progress.json"), "progress.json"),
    "signature": (lambda n, o: flip(n / "model.sig"), "model.sig|signature|signed"),
    "unsigned": (lambda n, o: (n / "model.sig").unlink(), "not signed|no signature|model.sig"),
    "shorter": (lambda n, o: os.truncate(n / "state.weights.h5", 999), "state.weights.h5"),
    "missing": (lambda n, o: (n / "state.weights.h5").unlink(), "missing"),
    "added": (lambda n, o: (n / "more").write_text(""), "added"),
    "older renamed": (exchange, "step 3, not those of its name"),
    "another key": (sign_by_another, "which is not trusted"),
    "mixed": (sign_partly, "changed"),
    "link": (link, "no plain file"),
}


@pytest.mark.parametrize("kind", TAMPERING)
def test_tampering_is_refused(tmp_path, two_checkpoints, kind):
    folder = shutil.copytree(two_checkpoints, tmp_path / "saved")
    newest, older = SecureCheckpoint(folder, PRIVATE).checkpoints()
    tamper, match = TAMPERING[kind]
    tamper(newest, older)
    model = new_model()
    before = state(model)
    with pytest.raises(IntegrityError, match=rf"(?s)step-000000000006 is damaged: .*({match})"):
        begin(SecureCheckpoint(folder, PRIVATE), model)
    assert same(state(model), before)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    with pytest.raises(IntegrityError):
        SecureCheckpoint(folder, PRIVATE).load(model, newest)
    # Given up on purpose, with the record, the older one is gone on from.
    shutil.rmtree(newest)
    (folder / "newest.json").unlink()
    checkpoint = SecureCheckpoint(folder, PRIVATE)
    assert int(begin(checkpoint, model).optimizer.iterations) == 3


def test_what_is_verified_is_what_is_loaded(tmp_path, two_checkpoints, monkeypatch):
    folder = shutil.copytree(two_checkpoints, tmp_path / "saved")
    from keras_secure.callbacks import checkpoint_seal

    def verify_then_tamper(path, *arguments, **options):
        report = verify(path, *arguments, **options)
        (folder / "step-000000000006" / "state.weights.h5").write_bytes(b"exchanged meanwhile")
        return report

    monkeypatch.setattr(checkpoint_seal, "verify", verify_then_tamper)
    assert int(begin(SecureCheckpoint(folder, PRIVATE)).optimizer.iterations) == 6


def test_other_trust(tmp_path, two_checkpoints):
    other, public = generate_key_pair()
    folder = shutil.copytree(two_checkpoints, tmp_path / "saved")
    with pytest.raises(IntegrityError, match="there is no intact one"):
        begin(SecureCheckpoint(folder, other))
    assert int(begin(SecureCheckpoint(folder, other, [public, PUBLIC])).optimizer.iterations) == 6


# -- going back -------------------------------------------------------------------------------


def test_an_older_checkpoint_is_refused_where_a_newer_is_known(tmp_path, two_checkpoints):
    folder, record = tmp_path / "saved", tmp_path / "safe.json"
    save(SecureCheckpoint(folder, PRIVATE, record=record), new_model(), 3, 6)
    assert not (folder / "newest.json").exists()

    def refuse(match):
        with pytest.raises(IntegrityError, match=match):
            begin(SecureCheckpoint(folder, PRIVATE, record=record))

    newest, older = SecureCheckpoint(folder, PRIVATE).checkpoints()
    shutil.move(newest, tmp_path / "aside")
    refuse("step 6 of run .* was saved, and what is there is older, step 3")
    shutil.move(older, tmp_path / "aside too")
    refuse("was saved, and it is not there")
    shutil.copytree(two_checkpoints / "step-000000000006", folder / "step-000000000006")
    refuse("what is there is of run")
    shutil.rmtree(folder / "step-000000000006")
    shutil.move(tmp_path / "aside", newest)
    record.write_text("{}")
    refuse("cannot be read")
    record.unlink()
    assert int(begin(SecureCheckpoint(folder, PRIVATE, record=record)).optimizer.iterations) == 6


def test_a_finished_run_is_not_begun_again_from_its_checkpoints(tmp_path):
    checkpoint = SecureCheckpoint(tmp_path / "saved", PRIVATE, delete_checkpoint=True)
    save(checkpoint, new_model(), 3)
    shutil.copytree(tmp_path / "saved" / "step-000000000003", tmp_path / "aside")
    checkpoint.model.optimizer.iterations.assign(6)
    checkpoint.on_train_end()
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["newest.json"]
    again = SecureCheckpoint(tmp_path / "saved", PRIVATE)
    begin(again)  # another run may begin
    assert again.resumed is None
    shutil.copytree(tmp_path / "aside", tmp_path / "saved" / "step-000000000003")
    with pytest.raises(IntegrityError, match="older, step 3"):
        begin(SecureCheckpoint(tmp_path / "saved", PRIVATE))


def test_nothing_is_restored_into_a_model_that_is_as_far(tmp_path, two_checkpoints):
    folder = shutil.copytree(two_checkpoints, tmp_path / "saved")
    model = new_model()
    model.optimizer.iterations.assign(6)
    before = state(model)
    checkpoint = SecureCheckpoint(folder, PRIVATE)
    assert same(state(begin(checkpoint, model)), before)
    assert checkpoint.resumed is None
    # It goes on with the same run, so the next resume is no change of runs.
    model.optimizer.iterations.assign(8)
    checkpoint.on_epoch_end(0)
    assert int(begin(SecureCheckpoint(folder, PRIVATE)).optimizer.iterations) == 8


# -- what is kept -----------------------------------------------------------------------------


def test_keeps_the_newest_and_the_best(tmp_path):
    checkpoint = SecureCheckpoint(tmp_path, PRIVATE, keep=2, monitor="val_accuracy")
    accuracy = [0.5, 0.9, float("nan"), 0.7, 0.9]
    save(checkpoint, new_model(), 1, 2, 3, 4, 5, val_accuracy=accuracy)
    kept = [int(path.name[-1]) for path in checkpoint.checkpoints()]
    assert kept == [5, 4, 2]
    assert checkpoint.best.name == "step-000000000002"
    # A later fit knows it too.
    later = SecureCheckpoint(tmp_path, PRIVATE, keep=1, monitor="val_accuracy")
    model = begin(later)
    assert later.best == checkpoint.best
    model.optimizer.iterations.assign(6)
    later.on_epoch_end(5, {"val_accuracy": 0.8})
    assert [int(path.name[-1]) for path in later.checkpoints()] == [6, 2]
    model.optimizer.iterations.assign(7)
    later.on_epoch_end(6, {"val_accuracy": 0.95})
    assert [int(path.name[-1]) for path in later.checkpoints()] == [7]
    other = new_model()
    later.load(other)
    assert int(other.optimizer.iterations) == 7


def test_load_takes_the_best(tmp_path):
    checkpoint = SecureCheckpoint(tmp_path, PRIVATE, monitor="loss", passphrase="pw")
    model = new_model()
    save(checkpoint, model, 1, 2, loss=[0.1, 0.2])
    model.optimizer.iterations.assign(3)
    checkpoint.load(model)
    assert int(model.optimizer.iterations) == 1
    with pytest.raises(InputError, match="no checkpoint in"):
        SecureCheckpoint(tmp_path / "none", PRIVATE).load(model)


@pytest.mark.parametrize(
    ("monitor", "mode"),
    [("val_loss", "min"), ("accuracy", "max"), ("val_auc", "max"), ("mae", "min")],
)
def test_which_is_better(monitor, mode):
    assert BestCheckpoint(monitor, None).mode == mode
    best = BestCheckpoint(monitor, {"min": "max", "max": "min"}[mode])
    for steps, value in enumerate([2.0, 3.0, 1.0]):
        best.update(steps, {monitor: value})
    assert best.steps == (1 if mode == "min" else 2)


def test_arguments(tmp_path):
    for options, match in [
        ({"monitor": "loss", "save_freq": 3}, "save_freq='epoch'"),
        ({"monitor": "something"}, "mode='max' or mode='min'"),
        ({"monitor": "accuracy_loss"}, "mode='max' or mode='min'"),
        ({"monitor": "loss", "mode": "least"}, "mode is 'least'"),
        ({"keep": 0}, "at least one"),
        ({"save_freq": 0}, "save_freq is 0"),
    ]:
        with pytest.raises(InputError, match=match):
            SecureCheckpoint(tmp_path, PRIVATE, **options)
    with pytest.raises(InputError, match=r"no metric 'val_loss'; it has loss"):
        save(SecureCheckpoint(tmp_path, PRIVATE, monitor="val_loss"), new_model(), 1, loss=[1.0])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.raises(InputError, match="counts no steps"):
        begin(SecureCheckpoint(tmp_path / "x", PRIVATE), model)


# -- encryption -------------------------------------------------------------------------------


def test_encrypted_checkpoints(tmp_path):
    (tmp_path / "scratch").mkdir()
    recipient = generate_identity(tmp_path / "identity")
    secret = {"recipients": recipient, "identities": tmp_path / "identity"}
    folder = tmp_path / "saved"
    checkpoint = SecureCheckpoint(folder, PRIVATE, scratch=tmp_path / "scratch", **secret)
    save(checkpoint, new_model(), 3)
    (path,) = checkpoint.checkpoints()
    assert sorted(file.name for file in path.iterdir()) == [
        "model.sig",
        "progress.json",
        "state.weights.h5.enc",
    ]
    assert verify(path, PUBLIC).ok
    assert not list((tmp_path / "scratch").iterdir())
    # A killed process leaves plaintext, which the next one removes.
    left = checkpoint._seal.plain
    left.mkdir()
    (left / "state.weights.h5").write_bytes(b"plain")
    (folder / ".newest.json.0123456789abcdef.part").write_bytes(b"{")
    again = SecureCheckpoint(folder, PRIVATE, scratch=tmp_path / "scratch", **secret)
    assert int(begin(again).optimizer.iterations) == 3
    assert not list((tmp_path / "scratch").iterdir())
    assert sorted(entry.name for entry in folder.iterdir()) == ["newest.json", path.name]
    with pytest.raises(InputError, match="Give the identities"):
        begin(SecureCheckpoint(folder, PRIVATE, recipients=recipient))
    generate_identity(tmp_path / "other")
    with pytest.raises(InputError, match="none of the given identities"):
        begin(SecureCheckpoint(folder, PRIVATE, identities=tmp_path / "other"))
    flip(path / "state.weights.h5.enc")
    with pytest.raises(IntegrityError, match=r"state.weights.h5.enc"):
        begin(SecureCheckpoint(folder, PRIVATE, **secret))


# -- privacy ----------------------------------------------------------------------------------


def private():
    secure = ks.SecureModel(keras.Sequential([keras.Input((4,)), layers.Dense(2)]))
    optimizer = ks.optimizers.DPSGD(0.1, l2_norm_clip=1.0, noise_multiplier=3.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    secure.compile(optimizer, loss=loss)
    return secure


def test_carries_the_ledger_and_counts_with_a_journal(tmp_path):
    def callbacks(folder="saved", journal=True):
        key = {"key": bytes(32)}
        checkpoint = SecureCheckpoint(tmp_path / folder, PRIVATE, save_freq=2, **key)
        return [checkpoint, PrivacyJournal(tmp_path / "journal")][: 1 + journal]

    with pytest.raises(CrashError):
        fit(private(), *callbacks(), Crash(1, 2))
    copy = shutil.copytree(tmp_path / "saved", tmp_path / "copy")
    with pytest.raises(ValueError, match="callback PrivacyJournal"):
        fit(private(), *callbacks(journal=False))
    resumed = private()
    with pytest.warns(PrivacyWarning, match="2 private steps beyond"):
        fit(resumed, *callbacks(), epochs=2)
    assert resumed.optimizer.executed_steps == 6 + 3
    # A damaged newest one: the journal knows what the older lacks, and nothing else does.
    newest = SecureCheckpoint(copy, PRIVATE).checkpoints()[0]
    assert newest.name == "step-000000000004"
    flip(newest / "state.weights.h5.enc")
    with pytest.raises(PrivacyError, match="lacks the privacy spent since"):
        begin(callbacks("copy")[0], private())
    later = private()
    with pytest.warns(PrivacyWarning, match=r"step-000000000002 is used instead"):
        fit(later, *callbacks("copy"), epochs=1)
    assert later.optimizer.executed_steps == 9 + 3


# -- kill -9 ----------------------------------------------------------------------------------


def lives(folder, kills, seed):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, harness_secure_crash.__file__, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert not [line for line in found["lines"] if line.startswith("refused")], found["lines"]
    assert found["lines"][-1].startswith("same True"), found["lines"][-1]
    assert [name for name in found["left"] if name.startswith(".")] == []
    steps = [int(line.split()[1]) for line in found["lines"] if line.startswith("resumed")]
    assert steps == sorted(steps)
    return steps


@pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked")
def test_one_kill(tmp_path):
    assert lives(tmp_path, kills=1, seed=1)[-1] > 0


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="lives are forked")
def test_thirty_kills(tmp_path):
    steps = lives(tmp_path, kills=30, seed=0)
    assert len(set(steps)) > 20
    print(steps)
