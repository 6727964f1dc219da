"""`keras-secure scan`: is opening this model file safe?"""

import argparse
import json
import sys
from pathlib import Path

from keras_secure.errors import InputError
from keras_secure.integrity.scan import ScanReport, scan

CLEAN, FINDINGS, UNUSABLE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="model file, SavedModel or folder; nothing in it is executed")
    parser.add_argument(
        "--format",
        choices=("text", "json", "sarif"),
        default="text",
        help="form of the report (default: text)",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="write the report to this file, not to the terminal"
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NAME",
        help="a class or function that you vouch for, as module>Name or by its registered name, or "
        "an operation of TensorFlow; may be given several times",
    )


def main(args: argparse.Namespace) -> int:
    """Scans `args.path` and writes a report.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 clean, 1 findings of medium severity or worse, 2 unusable arguments.
    """
    try:
        report = scan(args.path, allow=args.allow)
        # A path may hold bytes that are no text.
        text = (_FORMS[args.format](report) + "\n").encode("utf-8", "backslashreplace").decode()
        if args.output is None:
            sys.stdout.write(text)
        else:
            _write(args.output, text)
    except InputError as error:
        print(f"keras-secure: {error}", file=sys.stderr)
        return UNUSABLE
    return CLEAN if report.ok else FINDINGS


def _text(report: ScanReport) -> str:
    verdict = "OK" if report.ok else "UNSAFE"
    return "\n".join(
        [
            *report.describe(),
            f"{verdict}: {report.path} ({report.format}), {report.files} files and {report.bytes} "
            f"bytes looked at in {report.seconds:.2f} s, worst severity: {report.worst}",
        ]
    )


_FORMS = {
    "text": _text,
    "json": lambda report: json.dumps(report.to_dict(), indent=2),
    "sarif": lambda report: json.dumps(report.to_sarif(), indent=2),
}


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The report cannot be written to {path}: {error.strerror}. Choose another place with "
            "--output FILE."
        ) from error
