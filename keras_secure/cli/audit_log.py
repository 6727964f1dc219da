"""`keras-secure audit-log`: is the log of a server what was written, and what does it keep?"""

import argparse
import json
import sys

from keras_secure.cli.serve_trust import read_trust_files
from keras_secure.errors import InputError
from keras_secure.integrity.strict_json import parse_json
from keras_secure.serving import AuditLogReport, open_inputs, verify_audit_log

INTACT, REFUSED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="find any line that is not what was written")
    verify.add_argument("log", nargs="+", help="the log, or its files in their order")
    verify.add_argument(
        "--trust",
        required=True,
        action="append",
        metavar="FILE",
        help="public key that checkpoints must be signed with, or trust file",
    )
    verify.add_argument("--head", metavar="FILE", help="last checkpoint (LOG.head)")
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="SEQ:HASH",
        help="what an earlier verification printed as head",
    )
    verify.add_argument("--json", action="store_true", help="print the report as JSON")
    inputs = actions.add_parser("inputs", help="print the requests and answers that were kept")
    inputs.add_argument("log", help="the log")
    inputs.add_argument("--identity", required=True, metavar="FILE", help="what they are for")


def main(args: argparse.Namespace) -> int:
    """Checks or reads a log.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0 if every whole line is what was written, 1 otherwise. What cannot be used is raised.
    """
    if args.action == "inputs":
        return _print_inputs(args)
    report = verify_audit_log(
        args.log, read_trust_files(args.trust), head=args.head, anchors=args.anchor
    )
    if args.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _print(report)
    return INTACT if report.ok else REFUSED


def _print(report: AuditLogReport) -> None:
    for finding in report.findings:
        stream = sys.stdout if finding.severity == "info" else sys.stderr
        print(finding.statement, file=stream)
    result = "OK" if report.ok else "REFUSED"
    print(f"{result}: {report.lines} lines, {report.signed} of them signed; head {report.head}")


def _print_inputs(args: argparse.Namespace) -> int:
    try:
        with open(args.log, "rb") as file:
            for line in file:
                if b'"sealed"' not in line or not line.endswith(b"\n"):
                    continue
                record = parse_json(line, "A line of the log")
                content = open_inputs(record["sealed"], args.identity)
                print(json.dumps({"request_id": record["request"], **content}))
    except OSError as error:
        raise InputError(
            f"{args.log} cannot be read: {error.strerror}. Give the path of the log."
        ) from error
    return INTACT
