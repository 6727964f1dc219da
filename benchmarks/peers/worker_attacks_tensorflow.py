"""Attacks of cleverhans, foolbox and the Adversarial Robustness Toolbox on TensorFlow models.

Runs in the environment `env-attacks-tensorflow` that `build_attacks.sh` makes; jobs and results
as in `attack_jobs.py`. Libraries: "cleverhans", "foolbox", "art". For cleverhans, `attack` is the
name of a function, for example "projected_gradient_descent".
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import importlib

import keras
import numpy as np
import tensorflow as tf
from attack_jobs import serve
from attack_models import rebuilt_keras


def prepare(job, x, y):
    tf.random.set_seed(job["seed"])
    model = rebuilt_keras(keras, job["model"])
    size = job.get("batch_size", 128)

    def answers(inputs):
        return model.predict(inputs, batch_size=1024, verbose=0).argmax(1)

    attack = {"cleverhans": cleverhans, "foolbox": foolbox, "art": art}[job["library"]]
    return attack(job, model, x, y.astype("int64"), size), answers


def in_batches(attack, x, y, size):
    """Runs `attack` on one batch after another."""
    starts = range(0, len(x), size)
    return lambda: np.concatenate(
        [np.asarray(attack(x[start : start + size], y[start : start + size])) for start in starts]
    )


def cleverhans(job, model, x, y, size):
    module = importlib.import_module(f"cleverhans.tf2.attacks.{job['attack']}")
    function = getattr(module, job["attack"])
    parameters = {"clip_min": 0.0, "clip_max": 1.0, **job.get("parameters", {})}
    if job.get("epsilon") is not None:
        parameters["eps"] = job["epsilon"]
        parameters["norm"] = np.inf if job["norm"] == "linf" else 2
    logits = tf.function(lambda inputs: model(inputs, training=False))

    def attack(inputs, labels):
        return function(logits, tf.constant(inputs), y=tf.constant(labels), **parameters)

    return in_batches(attack, x, y, size)


def foolbox(job, model, x, y, size):
    import foolbox

    wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
    attack = getattr(foolbox.attacks, job["attack"])(**job.get("parameters", {}))

    def run(inputs, labels):
        inputs, labels = tf.constant(inputs), tf.constant(labels)
        return attack(wrapped, inputs, labels, epsilons=job.get("epsilon"))[1]

    return in_batches(run, x, y, size)


def art(job, model, x, y, size):
    from art.attacks import evasion
    from art.estimators.classification import TensorFlowV2Classifier

    classifier = TensorFlowV2Classifier(
        model,
        nb_classes=model.output_shape[1],
        input_shape=x.shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        clip_values=(0.0, 1.0),
    )
    parameters = dict(job.get("parameters", {}))
    if job["attack"] == "AutoAttack":
        return lambda: evasion.AutoAttack(classifier, batch_size=size, **parameters).generate(x, y)
    make = getattr(evasion, job["attack"])
    if "batch_size" in make.attack_params:
        parameters["batch_size"] = size
    if "verbose" in make.attack_params:
        parameters["verbose"] = False
    attack = make(classifier, **parameters)
    return lambda: attack.generate(x, y)


if __name__ == "__main__":
    serve(prepare)
