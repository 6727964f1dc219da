"""`keras-secure serve`: verified bundles in TensorFlow Serving's REST dialect."""

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import Any

from keras_secure.cli.passphrase import passphrase_from_file, read_passphrase
from keras_secure.cli.serve_trust import read_trust_files
from keras_secure.cli.serve_watch import make_monitor
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import load_private_key
from keras_secure.integrity.key_files import is_encrypted
from keras_secure.serving import (
    ApiKeys,
    AuditLog,
    Authenticator,
    Identity,
    JwtVerifier,
    Limits,
    QueryBudgets,
    ServedModel,
    UpstreamModel,
    create_app,
    serve,
)
from keras_secure.serving.identity import check_scopes

_LIMITS = {
    "request_bytes": ("--max-request-bytes", int, "bytes of a request"),
    "rows": ("--max-rows", int, "examples in a request"),
    "depth": ("--max-depth", int, "levels of nesting of a request's JSON"),
    "seconds": ("--max-seconds", float, "seconds to an answer"),
    "concurrency": ("--max-concurrency", int, "requests worked on at once; 503 beyond"),
    "connections": ("--max-connections", int, "open connections"),
    "rate": ("--rate", float, "requests a second of one identity"),
    "burst": ("--burst", int, "requests it may make at once"),
    "budget": ("--budget", int, "examples that one identity may have answered in all"),
    "batch": ("--batch", int, "examples that are computed together at most"),
    "batch_delay": ("--batch-delay", float, "seconds that a request waits for others"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    add = parser.add_argument
    add("bundle", nargs="*", help="bundle or store of bundles, as PATH or NAME=PATH")
    add(
        "--trust",
        action="append",
        default=[],
        metavar="FILE",
        help="public key, or trust file, whose bundles are served; may be given several times",
    )
    add("--min-serial", type=int, help="refuse an older release than this")
    add("--outputs", metavar="NAME[,NAME]", help="answer with these outputs only")
    add("--signature", action="append", default=[], metavar="NAME", help="serve this one too")
    add("--check-weights", type=float, default=0.0, metavar="SHARE", help="see Bundle.load")
    add("--upstream", metavar="URL", help="guard a TensorFlow Serving instead of a bundle")
    add("--model", metavar="NAME", help="the model's name at --upstream")
    add(
        "--bounds",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="of inputs: of --upstream, and --watch",
    )
    add("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    add("--port", type=int, default=8501, help="port (8501); 0 takes any that is free")
    add("--certificate", metavar="PEM", help="for TLS")
    add("--key", metavar="PEM", help="private key of the certificate")
    add("--key-password-file", metavar="FILE", help="file whose first line opens --key")
    add("--client-authorities", metavar="PEM", help="clients must have a certificate by one")
    add("--api-keys", metavar="FILE", help="made with `keras-secure api-key add`")
    add("--jwks", metavar="FILE", help="keys that tokens are checked with")
    add("--issuer", help="of tokens")
    add("--audience", help="of tokens")
    add("--algorithms", default="EdDSA,ES256,PS256,RS256", help="that sign tokens")
    add(
        "--anonymous",
        action="append",
        default=[],
        metavar="SCOPE",
        help="what requests without credentials may do, for example '*:predict'",
    )
    add("--audit-log", metavar="FILE", help="a line about every request")
    add("--audit-key", metavar="FILE", help="private key that signs its checkpoints")
    add("--passphrase-file", metavar="FILE", help="file whose first line opens --audit-key")
    add("--passphrase-env", metavar="NAME", help="or environment variable that holds it")
    add("--audit-max-bytes", type=int, help="begin a new file of the log at this size")
    add(
        "--keep-inputs-for",
        action="append",
        default=[],
        metavar="RECIPIENT",
        help="keep requests and answers in the audit log, encrypted for an `age1...`",
    )
    add(
        "--mask",
        action="append",
        default=[],
        metavar="FIELD",
        help="NAME or NAME[INDEX] that is masked in what is kept",
    )
    add("--budget-file", metavar="FILE", help="remembers budgets across restarts")
    add("--watch", action="store_true", help="look for extraction and for probing in the queries")
    add("--watch-data", metavar="NPZ", help="owner's `x`, maybe `predictions`, to compare with")
    add("--workers", type=int, help="threads that compute")
    add("--drain-seconds", type=float, default=30.0, help="to finish requests in the end")
    for name, (flag, kind, text) in _LIMITS.items():
        default = getattr(Limits(), name)
        shown = "no limit" if default is None else default
        add(flag, dest=name, type=kind, default=default, help=f"{text} ({shown})")


def main(args: argparse.Namespace) -> int:
    """Serves until it is told to end.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0 after a graceful end, 1 if a bundle was refused. What cannot be used is raised.

    Raises:
        InputError: An argument cannot be used.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    models = _models(args)
    authenticator = _authenticator(args)
    if bool(args.audit_log) != bool(args.audit_key):
        raise InputError("Give --audit-log and --audit-key together, or neither.")
    if (args.keep_inputs_for or args.mask) and not args.audit_log:
        raise InputError("Inputs are kept in the audit log: give --audit-log and --audit-key.")
    app = create_app(
        models,
        authenticator,
        limits=Limits(**{name: getattr(args, name) for name in _LIMITS}),
        audit_log=_audit_log(args),
        budgets=QueryBudgets(args.budget_file),
        observer=_observer(args),
        input_recipients=args.keep_inputs_for,
        masked=args.mask,
        workers=args.workers,
    )
    try:
        return serve(
            app,
            host=args.host,
            port=args.port,
            certificate=args.certificate,
            key=args.key,
            key_password=(
                None
                if args.key_password_file is None
                else passphrase_from_file(args.key_password_file)
            ),
            client_authorities=args.client_authorities,
            drain_seconds=args.drain_seconds,
            announce=lambda address: print(f"serving {', '.join(models)} at {address}", flush=True),
        )
    except IntegrityError as error:
        print(f"REFUSED: {error}", file=sys.stderr)
        return 1


def _models(args: argparse.Namespace) -> dict[str, Any]:
    if bool(args.bundle) == bool(args.upstream):
        raise InputError("Give the path of a bundle, or --upstream, and not both.")
    if args.upstream:
        if not args.model:
            raise InputError("Give --model, the name of the model at --upstream.")
        bounds = tuple(args.bounds) if args.bounds else None
        return {args.model: UpstreamModel(args.upstream, bounds=bounds)}
    if not args.trust:
        raise InputError(
            "Give --trust, the public key of whoever signs the bundles; none is served unverified."
        )
    trust = read_trust_files(args.trust)
    outputs = args.outputs.split(",") if args.outputs else None
    found: dict[str, Any] = {}
    for given in args.bundle:
        name, equals, path = given.partition("=")
        if not equals:
            name, path = _name(given), given
        if name in found:
            raise InputError(f"Two bundles have the name {name!r}; give NAME=PATH.")
        found[name] = ServedModel(
            path,
            trust,
            min_serial=args.min_serial,
            outputs=outputs,
            signatures=args.signature,
            check_weights=args.check_weights,
        )
    return found


def _name(path: str) -> str:
    """A name that fits into an address, from the name of a folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", Path(path).resolve().name).lstrip(".-") or "model"


def _authenticator(args: argparse.Namespace) -> Authenticator:
    keys = None if args.api_keys is None else ApiKeys(args.api_keys)
    tokens = None
    if args.jwks is not None:
        tokens = JwtVerifier(
            args.jwks,
            issuer=args.issuer or "",
            audience=args.audience or "",
            algorithms=args.algorithms.split(","),
        )
    anonymous = None
    if args.anonymous:
        anonymous = Identity("anonymous", "anonymous", check_scopes(args.anonymous))
    if keys is None and tokens is None and anonymous is None:
        raise InputError(
            "Nobody could ask anything: give --api-keys or --jwks, or --anonymous with what "
            "everybody may do."
        )
    return Authenticator(keys, tokens, anonymous)


def _audit_log(args: argparse.Namespace) -> AuditLog | None:
    if not args.audit_log:
        return None
    locked = is_encrypted(args.audit_key)
    key = load_private_key(args.audit_key, read_passphrase(args) if locked else None)
    return AuditLog(args.audit_log, key, max_bytes=args.audit_max_bytes)


def _observer(args: argparse.Namespace) -> Any:
    if not args.watch and args.watch_data is None:
        return None
    return make_monitor(args.watch_data, tuple(args.bounds) if args.bounds else (0.0, 1.0))
