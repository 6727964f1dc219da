"""`keras-secure api-key`: who may ask a server what, and who no longer."""

import argparse

from keras_secure.errors import InputError
from keras_secure.integrity.times import as_time, now
from keras_secure.serving import ApiKeys

DONE = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, this once")
    revoke = actions.add_parser("revoke", help="end a key, in running servers too")
    listing = actions.add_parser("list", help="print what is kept of the keys")
    for action in (add, revoke, listing):
        action.add_argument("file", help="the file of keys; its secret lies in FILE.secret")
        action.add_argument("--secret", metavar="FILE", help="where the secret lies instead")
    add.add_argument("name", help="whose key it is")
    add.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="MODEL:VERB",
        help="what it may do, for example 'digits:predict' or '*:*'; may be given several times",
    )
    add.add_argument("--expires", metavar="TIME", help="for example 2027-12-31")
    add.add_argument("--rate", type=float, help="requests a second")
    add.add_argument("--budget", type=int, help="examples that it may have answered in all")
    revoke.add_argument("id", help="the part of the key between the underscores")
    revoke.add_argument("--reason", default="", help="for whoever reads the list")


def main(args: argparse.Namespace) -> int:
    """Changes or prints the keys.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0; errors are raised.
    """
    keys = ApiKeys(args.file, args.secret, create=args.action == "add")
    if args.action == "add":
        if args.expires is not None and as_time(args.expires, "--expires") <= now():
            raise InputError(
                f"--expires is {args.expires!r}, which is over, so the key would never be valid. "
                "Give a point in time to come."
            )
        print(
            keys.add(
                args.name, args.scope, expires=args.expires, rate=args.rate, budget=args.budget
            )
        )
    elif args.action == "revoke":
        key = keys.revoke(args.id, args.reason)
        print(f"revoked {key.id} of {key.name or 'nobody'} at {key.revoked}")
    else:
        for key in keys.keys:
            until = f" until {key.expires}" if key.expires else ""
            reason = f" ({key.reason})" if key.reason else ""
            print(f"{key.id} {key.name}: {key.state}{until}{reason}; {' '.join(key.scopes)}")
    return DONE
