"""`keras-secure verify`: is this bundle, to the byte, what a trusted key signed?"""

import argparse
import sys
from pathlib import Path

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import verify_bundle

INTACT, TAMPERED, UNUSABLE = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="folder of the bundle")
    parser.add_argument(
        "--public-key",
        required=True,
        metavar="FILE",
        help="PEM file of the public key you trust; get it from the publisher, not from the bundle",
    )


def main(args: argparse.Namespace) -> int:
    """Verifies `args.path` against `args.public_key`.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 intact, 1 tampered, 2 unusable arguments.
    """
    return verify(args.path, args.public_key)


def verify(path: str, public_key_path: str) -> int:
    """Prints one line for each difference, or one line that there is none.

    Args:
        path: Folder of the bundle.
        public_key_path: PEM file of the trusted public key.

    Returns:
        The exit code: 0 intact, 1 tampered, 2 a folder, manifest or key that cannot be used.
    """
    try:
        report = verify_bundle(path, public_key_path)
    except InputError as error:
        print(f"keras-secure: {error}", file=sys.stderr)
        return UNUSABLE
    except IntegrityError as error:
        print(f"TAMPERED: {error}")
        return TAMPERED
    if Path(public_key_path).resolve().is_relative_to(Path(path).resolve()):
        print(
            "warning: the public key lies inside the bundle, where whoever changes the bundle can "
            "change it too; use a copy that you got from the publisher",
            file=sys.stderr,
        )
    if report.ok:
        print(f"OK: {path} is intact and signed by {report.key_fingerprint}")
        return INTACT
    for line in report.describe():
        print(f"TAMPERED: {line}")
    return TAMPERED
