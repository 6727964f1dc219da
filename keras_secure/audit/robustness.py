"""From the measurements of the attacks room to the robustness section of an audit."""

from collections.abc import Mapping

from keras_secure.attacks import RobustnessReport
from keras_secure.audit.sections import RobustnessPoint, RobustnessSection
from keras_secure.errors import InputError


def robustness_section(reports: Mapping[str, RobustnessReport]) -> RobustnessSection:
    """Gathers the robustness of several models, clean accuracy being the point at zero.

    Args:
        reports: Model name to what `keras_secure.attacks.evaluate` returned, with `epsilons`, for
            the same attacks on the same examples.

    Returns:
        The `robustness` section of an `AuditReport`: one worst-case curve per model.

    Raises:
        InputError: If there is no report, or the models were attacked differently.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_secure import attacks
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> x, y = np.full((8, 4), 0.5, "float32"), np.zeros(8, int)
    >>> report = attacks.evaluate(model, x, y, attacks.FGSM(0.1), epsilons=[0.1], verbose=0)
    >>> [point["epsilon"] for point in robustness_section({"plain": report})["curves"]["plain"]]
    [0.0, 0.1]
    """
    if not reports:
        raise InputError(
            "No model was evaluated; expected one RobustnessReport per model: call "
            "keras_secure.attacks.evaluate for each."
        )
    settings = {name: _setting(report) for name, report in reports.items()}
    first, setting = next(iter(settings.items()))
    for name, other in settings.items():
        if other != setting:
            raise InputError(
                f"Models {first!r} and {name!r} were attacked differently ({setting[0]} on "
                f"{setting[2]} examples, {other[0]} on {other[2]}); expected the same attacks and "
                f"examples: evaluate every model in the same way."
            )
    attack, norm, num_examples = setting
    return {
        "attack": attack,
        "norm": norm,
        "num_examples": num_examples,
        "curves": {name: _curve(report) for name, report in reports.items()},
    }


def _setting(report: RobustnessReport) -> tuple[str, str, int]:
    described = []
    for attack in report.attacks:
        counts = [
            f"{attack.config[key]} {key}" for key in ("steps", "restarts") if key in attack.config
        ]
        described.append(f"{attack.name} ({', '.join(counts)})" if counts else attack.name)
    norms = ", ".join(dict.fromkeys(attack.norm for attack in report.attacks))
    return "; ".join(described), norms, report.num_examples


def _curve(report: RobustnessReport) -> list[RobustnessPoint]:
    points = {0.0: report.clean, **dict(report.worst_case_curve)}
    return [
        {"epsilon": epsilon, "accuracy": at.value, "low": at.low, "high": at.high}
        for epsilon, at in sorted(points.items())
    ]
