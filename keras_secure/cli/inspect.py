"""`keras-secure inspect`: what is in a bundle?"""

import argparse

from keras_secure.cli.telling import add_telling_arguments, tell
from keras_secure.errors import IntegrityError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="bundle, as export_hardened writes it")
    add_telling_arguments(parser)


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
    tell(summary, args.json)
    return 0
