"""`keras-secure diff`: what changed between two bundles?"""

import argparse
import sys

from keras_secure.cli.telling import add_telling_arguments, tell
from keras_secure.errors import IntegrityError

SAME, DIFFERENT, REFUSED = 0, 1, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("before", help="bundle, as export_hardened writes it")
    parser.add_argument("after", help="bundle to compare with it")
    add_telling_arguments(parser)


def main(args: argparse.Namespace) -> int:
    """Prints what differs between two bundles.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 where nothing differs, 1 where something does, or a bundle is refused.
    """
    from keras_secure.export import diff

    try:
        found = diff(args.before, args.after, args.trust)
    except IntegrityError as error:
        print(f"REFUSED: {error}")
        return REFUSED
    if args.trust is None:
        print("warning: nothing was verified; give --trust for that", file=sys.stderr)
    tell(found, args.json)
    return SAME if found.identical else DIFFERENT
