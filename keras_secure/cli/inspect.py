"""`keras-secure inspect`: what is in a bundle?"""

import argparse
import json

from keras_secure.errors import IntegrityError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="bundle, as export_hardened writes it")
    parser.add_argument(
        "--trust", metavar="FILE", help="public key or trust file; without it nothing is verified"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def main(args: argparse.Namespace) -> int:
    """Prints a summary of the bundle at `args.path`.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0, or 1 where the bundle does not verify or cannot be read.
    """
    from keras_secure.export import inspect

    try:
        summary = inspect(args.path, args.trust)
    except IntegrityError as error:
        print(f"REFUSED: {error}")
        return 1
    if args.json:
        print(json.dumps(summary.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(summary.describe()))
    return 0
