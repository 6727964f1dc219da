"""Attacks of foolbox, the Adversarial Robustness Toolbox and AutoAttack on PyTorch models.

Runs in the environment `env-attacks` that `build_attacks.sh` makes; jobs and results as in
`attack_jobs.py`. Libraries: "foolbox", "art", "autoattack". For the last, `attack` is one of its
attacks ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square"), or a version ("standard",
"plus", "rand"), and `parameters` are set on that attack's object, for example {"n_iter": 50}.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import numpy as np
import torch
from attack_jobs import serve
from attack_models import rebuilt_torch

if os.environ.get("OMP_NUM_THREADS"):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def channels_first(x):
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def prepare(job, x, y):
    torch.manual_seed(job["seed"])
    model = rebuilt_torch(torch, job["model"])
    size = job.get("batch_size", 128)

    def answers(inputs):
        with torch.no_grad():
            parts = torch.from_numpy(channels_first(inputs)).split(1024)
            return torch.cat([model(part).argmax(1) for part in parts]).numpy()

    attack = {"foolbox": foolbox, "art": art, "autoattack": autoattack}[job["library"]]
    found = attack(job, model, channels_first(x), y.astype("int64"), size)
    return lambda: channels_last(found()), answers


def foolbox(job, model, x, y, size):
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1))
    attack = getattr(foolbox.attacks, job["attack"])(**job.get("parameters", {}))
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def run():
        parts = []
        for inputs, labels in zip(x.split(size), y.split(size), strict=True):
            _, clipped, _ = attack(wrapped, inputs, labels, epsilons=job.get("epsilon"))
            parts.append(clipped.detach())
        return torch.cat(parts).numpy()

    return run


def art(job, model, x, y, size):
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    with torch.no_grad():
        classes = model(torch.from_numpy(x[:1])).shape[1]
    classifier = PyTorchClassifier(
        _SinglePrecision(model),
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=x.shape[1:],
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
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


class _SinglePrecision(torch.nn.Module):
    """Some attacks of the toolbox hand over float64, which a float32 model refuses."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.float())


def autoattack(job, model, x, y, size):
    from pyautoattack import AutoAttack

    versions = ("standard", "plus", "rand")
    options = (
        {"version": job["attack"]}
        if job["attack"] in versions
        else {"version": "custom", "attacks": [job["attack"]]}
    )
    norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[job["norm"]]
    attack = AutoAttack(model, norm=norm, eps=job["epsilon"], seed=job["seed"], **options)
    part = {"fab": "fab", "fab-t": "fab", "square": "square", "apgd-t": "apgd_targeted"}
    for name, value in job.get("parameters", {}).items():
        setattr(getattr(attack, part.get(job["attack"], "apgd")), name, value)
    x, y = torch.from_numpy(x), torch.from_numpy(y)

    def run():
        found = attack.run_standard_evaluation(x, y, batch_size=size)
        found = found[0] if isinstance(found, tuple) else found
        return found.detach().numpy()

    return run


if __name__ == "__main__":
    serve(prepare)
