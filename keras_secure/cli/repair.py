"""`keras-secure repair`: rebuild what is damaged, or go back to a version that verifies."""

import argparse
import json

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import RepairReport, Trust, repair, rollback
from keras_secure.integrity.trust import as_trust

WHOLE, LOST = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="signed file or folder; with --rollback a store of versions")
    parser.add_argument(
        "--trust",
        required=True,
        action="append",
        metavar="FILE",
        help="public key, or trust file; may be given several times, and then any of the keys is "
        "enough",
    )
    parser.add_argument("--signature", metavar="FILE", help="where the signature is")
    parser.add_argument("--dry-run", action="store_true", help="only say what is damaged")
    parser.add_argument(
        "--rollback", action="store_true", help="go back to the last version that verifies"
    )
    parser.add_argument("--min-serial", type=int, help="with --rollback: not before this release")
    parser.add_argument(
        "--not-before", metavar="TIME", help="with --rollback: not before this time of signing"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    """Repairs `args.path`, or rolls it back.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 it is now what was signed, 1 it is not. What cannot be used is raised.

    Raises:
        InputError: A path, a key or an argument cannot be used.
    """
    trust = as_trust(args.trust[0] if len(args.trust) == 1 else args.trust)
    try:
        return _rollback(args, trust) if args.rollback else _repair(args, trust)
    except IntegrityError as error:
        print(f"LOST: {error}")
        return LOST


def _repair(args: argparse.Namespace, trust: Trust) -> int:
    if args.min_serial is not None or args.not_before is not None:
        raise InputError("--min-serial and --not-before are for --rollback; give that too.")
    report = repair(args.path, trust, signature=args.signature, dry_run=args.dry_run)
    whole = report.ok or (args.dry_run and not report.damaged and not report.problem)
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report, whole)
    return WHOLE if whole else LOST


def _print(report: RepairReport, whole: bool) -> None:
    for line in report.describe():
        print(f"{'note' if whole else 'DAMAGED'}: {line}")
    if whole:
        rebuilt = f", {report.num_rebuilt} shards from parity" if report.num_rebuilt else ""
        print(f"OK: {report.path} is what was signed{rebuilt}")
    elif report.lost:
        print("LOST: nothing was changed, as there is not enough parity")


def _rollback(args: argparse.Namespace, trust: Trust) -> int:
    if args.signature or args.dry_run:
        raise InputError("--signature and --dry-run are not for --rollback; leave them out.")
    report = rollback(args.path, trust, min_serial=args.min_serial, not_before=args.not_before)
    if args.json:
        state = {"path": str(report.path), "version": report.version, "previous": report.previous}
        print(json.dumps({**state, "refused": [list(entry) for entry in report.refused]}, indent=2))
        return WHOLE
    for number, causes in report.refused:
        print(f"note: version {number} is refused: {'; '.join(causes)}")
    verb = "is now in use" if report.changed else "is in use as before"
    print(f"OK: version {report.version} {verb}: {report.path}")
    return WHOLE
