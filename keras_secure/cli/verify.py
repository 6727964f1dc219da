"""`keras-secure verify`: is this, to the byte, what trusted keys signed?"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import Trust, VerificationReport, verify
from keras_secure.integrity.paths import inside
from keras_secure.integrity.trust import as_trust

INTACT, REFUSED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="signed file or folder")
    parser.add_argument(
        "--trust",
        required=True,
        action="append",
        metavar="FILE",
        help="public key, or trust file; get it from the publisher, not from what you verify; may "
        "be given several times, and then any of the keys is enough",
    )
    parser.add_argument("--threshold", type=int, help="how many of the keys must have signed")
    parser.add_argument("--signature", metavar="FILE", help="where the signature is")
    parser.add_argument(
        "--endorsement",
        action="append",
        default=[],
        metavar="FILE",
        help="what a trusted key wrote to vouch for a new one",
    )
    parser.add_argument("--min-serial", type=int, help="refuse an older release than this")
    parser.add_argument("--not-before", metavar="TIME", help="refuse what was signed earlier")
    parser.add_argument("--ignore-modes", action="store_true", help="accept other permission bits")
    parser.add_argument(
        "--allow-unknown-signers",
        action="store_true",
        help="pass over signatures by other keys, if enough trusted ones hold",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def main(args: argparse.Namespace) -> int:
    """Prints one line for each cause to refuse `args.path`, or one line that there is none.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 intact, 1 refused. What cannot be used is raised.

    Raises:
        InputError: A path, a key or an argument cannot be used.
    """
    try:
        report = verify(
            args.path,
            _trust(args),
            signature=args.signature,
            endorsements=args.endorsement,
            min_serial=args.min_serial,
            not_before=args.not_before,
            check_modes=not args.ignore_modes,
            allow_unknown_signers=args.allow_unknown_signers,
        )
    except IntegrityError as error:
        print(f"REFUSED: {error}")
        return REFUSED
    if any(inside(Path(path), Path(args.path)) is not None for path in args.trust):
        print(
            "warning: a trusted key lies inside of what is verified, where whoever changes the one "
            "can change the other too; use a copy that you got from the publisher",
            file=sys.stderr,
        )
    _print(report, args)
    return INTACT if report.ok else REFUSED


def _trust(args: argparse.Namespace) -> Trust:
    trusts = [as_trust(path) for path in args.trust]
    if len(trusts) > 1 and any(len(trust.keys) > 1 or trust.revoked for trust in trusts):
        raise InputError("Give one trust file, or public keys; a trust file stands alone.")
    trust = trusts[0] if len(trusts) == 1 else Trust(tuple(trust.keys[0] for trust in trusts))
    return trust if args.threshold is None else replace(trust, threshold=args.threshold)


def _print(report: VerificationReport, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
        return
    for line in report.describe():
        print(f"REFUSED: {line}")
    if report.ok:
        names = ", ".join(
            f"{signer.fingerprint} {signer.name}".rstrip() for signer in report.signers
        )
        state = f" at {report.created}, serial number {report.serial}" if report.created else ""
        print(f"OK: {args.path} is intact and signed by {names}{state}")
    for finding in report.findings:
        if finding not in report.failures:
            print(f"note: {finding.statement}")
