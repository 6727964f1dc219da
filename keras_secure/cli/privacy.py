"""`keras-secure privacy check`: do the promises of private training hold, here, in this version?"""

import argparse

from keras_secure.audit.self_check import run_self_check


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the subcommand can be asked for."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    summary = "check the engine, seed defects into it, and show that the checks catch them"
    actions.add_parser("check", help=summary, description=summary + ".")


def main(args: argparse.Namespace) -> int:
    """Prints a line for each check and defect; returns 1 if one is broken or missed, else 0."""
    report = run_self_check(progress=lambda line: print(line, flush=True))
    seeded = len(report.caught) + len(report.missed)
    print(
        f"{len(report.failures)} promises broken; {len(report.caught)} of {seeded} seeded defects "
        f"caught, in {report.seconds:.0f} s."
    )
    return 0 if report.ok else 1
