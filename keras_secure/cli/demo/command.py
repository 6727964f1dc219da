"""The subcommand `demo`: options in, stages in order, report out."""

import tempfile
import time

import keras

import keras_secure as ks
from keras_secure.cli import data, output
from keras_secure.cli.demo import measuring, plan, shipping, training
from keras_secure.errors import InputError

# Not argparse's own default: a value that equals it would escape the exclusion with --data.
DEFAULT_DATASET = "digits"

DEFAULT_OUTPUT = "keras-secure-demo"

TARGET_EPSILONS = 0.01, 100.0
"""Below, no noise is enough for a small data set; above, the noise protects nothing."""

ATTACK_EPSILONS = 1e-4, 1.0
"""Below, float32 inputs hardly move; above, nothing of an input in [0, 1] is left."""

SEEDS = 0, 2**32 - 1
"""What NumPy accepts."""


def add_arguments(parser):
    """Declares the options."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--dataset",
        metavar="NAME",
        help=f"one of {', '.join(data.KNOWN)} (default: {DEFAULT_DATASET}, needs no download)",
    )
    source.add_argument(
        "--data", metavar="FILE.npz", help="arrays x_train, y_train, x_test, y_test, or x, y"
    )
    parser.add_argument("--output", default=DEFAULT_OUTPUT, metavar="FOLDER", help="new folder")
    parser.add_argument(
        "--target-epsilon", type=float, default=3.0, metavar="E", help="privacy budget (default 3)"
    )
    parser.add_argument(
        "--attack-epsilon", type=float, metavar="E", help="linf attack size, for inputs in [0, 1]"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and shuffling; never noise")
    parser.add_argument("--quick", action="store_true", help="train and measure less")


def main(options):
    """Runs the demo and returns 0."""
    _check(options)
    output.check_output_folder(options.output)
    if options.data is not None:
        dataset = data.load_npz(options.data)
    else:
        name = DEFAULT_DATASET if options.dataset is None else options.dataset
        dataset = data.load_dataset(name)
    sizes = plan.make_plan(dataset, options.quick, options.attack_epsilon)
    keras.utils.set_random_seed(options.seed)
    with (
        output.staged_folder(options.output) as folder,
        tempfile.TemporaryDirectory(prefix="keras-secure-") as scratch,
    ):
        report = _run(dataset, sizes, options.target_epsilon, folder, scratch)
        ks.audit.write_report(report, folder)
    print()
    print(ks.audit.summary_table(report))
    print(f"\nReport: {options.output}/report.html   Bundle: {options.output}/bundle")
    return 0


def _check(options):
    _check_range("--target-epsilon", options.target_epsilon, TARGET_EPSILONS)
    if options.attack_epsilon is not None:
        _check_range("--attack-epsilon", options.attack_epsilon, ATTACK_EPSILONS)
    _check_range("--seed", options.seed, SEEDS)
    if not options.output:
        raise InputError("--output is empty; give the name of a new folder.")


def _check_range(name, value, allowed):
    low, high = allowed
    # Written so that NaN fails it.
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; give a number from {low} to {high}.")


def _run(dataset, sizes, target_epsilon, folder, scratch):
    timings = {}

    def timed(stage, function, *arguments):
        start = time.perf_counter()
        result = function(*arguments)
        timings[stage] = time.perf_counter() - start
        return result

    mark, watermark_key = shipping.new_mark()
    delta = plan.target_delta(len(dataset.x_train))
    private, optimizer, budget = timed(
        "private training", training.train_private, dataset, sizes, target_epsilon, delta
    )
    plain = timed("plain training", training.train_plain, dataset, sizes)
    robust = timed("robust training", training.train_robust, dataset, sizes, mark, plain)
    models = {"plain": plain, "robust": robust, "private": private}
    watermark = shipping.measure_watermark(models["robust"], mark)
    print("exporting, signing and serving the robust model", flush=True)
    metadata = {"data": dataset.name, "training": models["robust"].description}
    bundle, guards, private_key = timed(
        "export", shipping.ship, models["robust"], folder / "bundle", metadata
    )
    public_key = private_key.public_key()
    integrity = timed("verification", shipping.measure_integrity, bundle, public_key, scratch)
    serving = timed(
        "serving", shipping.measure_serving, models["robust"], bundle, guards, dataset, scratch
    )
    robustness = timed("attacks", measuring.measure_robustness, models, dataset, sizes)
    membership = timed("membership", measuring.measure_membership, models, dataset)
    pictures = timed("pictures", measuring.collect_pictures, models, dataset, sizes)
    _keep(folder, models, private_key, watermark_key)
    return ks.audit.AuditReport(
        title="Hardening a model, measured",
        data={
            "name": dataset.name,
            "num_train": len(dataset.x_train),
            "num_test": len(dataset.x_test),
            "num_classes": dataset.num_classes,
            "shape": dataset.x_train.shape[1:],
            "notes": dataset.notes,
        },
        models={
            name: measuring.measure_accuracy(trained, dataset) for name, trained in models.items()
        },
        robustness=robustness,
        privacy=measuring.measure_privacy(optimizer, budget, private, dataset),
        membership=membership,
        watermark=watermark,
        integrity=integrity,
        serving=serving,
        adversarial_examples=pictures,
        timings=timings,
    )


def _keep(folder, models, private_key, watermark_key):
    """Saves the models, and the secrets that prove ownership where only the owner can read them."""
    (folder / "models").mkdir()
    for name, trained in models.items():
        trained.model.save(folder / "models" / f"{name}.keras")
    secrets_folder = folder / "secrets"
    secrets_folder.mkdir(mode=0o700)
    ks.integrity.save_private_key(private_key, secrets_folder / "signing_key.pem")
    ks.integrity.save_public_key(private_key.public_key(), folder / "public_key.pem")
    key_file = secrets_folder / "watermark_key.txt"
    key_file.touch(mode=0o600)
    key_file.write_text(watermark_key + "\n")
