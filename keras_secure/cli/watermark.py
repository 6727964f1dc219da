"""`keras-secure watermark`: embed a mark of ownership, commit to it, or check a claim."""

import argparse
import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from keras_secure.cli.passphrase import add_passphrase_arguments, read_passphrase
from keras_secure.errors import InputError, IntegrityError
from keras_secure.integrity import load_model, load_private_key
from keras_secure.integrity.atomic import temporary_name, write_new, writing
from keras_secure.integrity.key_files import is_encrypted

# What refutes a claim and what says nothing either way are told apart by scripts too.
_EXIT_CODES = {"proved": 0, "refuted": 1, "inconclusive": 3, "failed": 3}
_MOST_KEY_BYTES = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    embedding = actions.add_parser("embed", help="put a mark into a finished model, without data")
    _add_common(embedding)
    embedding.add_argument("--output", required=True, metavar="FILE", help="the marked .keras file")
    embedding.add_argument(
        "--new-key", action="store_true", help="make the key file, which must not exist yet"
    )
    committing = actions.add_parser("commit", help="sign a commitment to the mark, to publish")
    _add_common(committing)
    committing.add_argument("--output", required=True, metavar="FILE", help="the commitment")
    committing.add_argument(
        "--signing-key", required=True, metavar="FILE", help="private key, as keygen makes it"
    )
    add_passphrase_arguments(committing)
    verifying = actions.add_parser(
        "verify",
        help="read the mark and weigh the evidence",
        epilog="Exit code: 0 proved, 1 refuted, 3 nothing shown either way.",
    )
    _add_common(verifying)
    verifying.add_argument("--commitment", metavar="FILE", help="the claimant's commitment")
    verifying.add_argument(
        "--public-key", metavar="FILE", help="the claimant's public key, for the commitment"
    )
    verifying.add_argument(
        "--reference", metavar="FILE", help="the owner's marked model, to re-align neurons with"
    )
    verifying.add_argument("--released", metavar="DATE", help="when the model was first seen")
    verifying.add_argument(
        "--tries", type=int, default=1, help="keys and models that this one was chosen from"
    )


def main(args: argparse.Namespace) -> int:
    """Does what `args.action` says and prints what came of it.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0 when it was done, or a claim is proved; 1 when a claim is refuted; 3 when the evidence
        says nothing either way, because too little or nothing could be compared.

    Raises:
        SecurityError: A file or an option cannot be used.
    """
    return {"embed": _embed, "commit": _commit, "verify": _verify}[args.action](args)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help=".keras file; it is scanned before it is loaded")
    parser.add_argument(
        "--key-file", required=True, metavar="FILE", help="file that holds the watermark's key"
    )
    parser.add_argument(
        "--payload", metavar="TEXT", help="up to 8 bytes to embed; drawn from the key by default"
    )
    parser.add_argument(
        "--layers", nargs="+", metavar="NAME", help="layers to mark; all that can be by default"
    )
    parser.add_argument(
        "--format", choices=("text", "json"), default="text", help="form of the report"
    )


def _embed(args: argparse.Namespace) -> int:
    from keras_secure import watermark

    if Path(args.output).suffix != ".keras":
        raise InputError(f"{args.output} is no name of a .keras file; give one that ends so.")
    # With optimizer and metrics, so that the marked file is what the other one was.
    model = _load(args.model, compile=True)
    key = _new_key(args.key_file) if args.new_key else _key(args.key_file)
    mark = watermark.SpreadSpectrum(key, args.payload)
    done = watermark.embed(model, mark, args.layers)
    output = Path(args.output)
    # Keras tells the format by the end of the name.
    staged = temporary_name(output, "part.keras")
    try:
        with writing(output):
            model.save(staged)
        if args.new_key:
            with writing(args.key_file):
                write_new(args.key_file, key + b"\n", 0o600)
        with writing(output):
            os.replace(staged, output)
    finally:
        with contextlib.suppress(OSError):
            staged.unlink()
    lines = [
        f"{one.name} {one.shape}: moved by {one.moved:.1%} of its norm, {one.bit_errors} of "
        f"{mark.num_bits} raw bits wrong"
        for one in done
    ]
    lines += [
        f"{args.output} carries the mark. Measure its accuracy, and commit to the mark before you "
        "release the model.",
    ]
    _print(args, lines, {"output": args.output, "weights": [vars(one) for one in done]})
    return 0


def _commit(args: argparse.Namespace) -> int:
    from keras_secure import watermark

    passphrase = read_passphrase(args) if is_encrypted(args.signing_key) else None
    private_key = load_private_key(args.signing_key, passphrase)
    model = _load(args.model)
    mark = watermark.SpreadSpectrum(_key(args.key_file), args.payload)
    found = watermark.verify(model, mark, args.layers)
    if not found.claim:
        raise InputError(
            f"This model does not carry the mark, so there is nothing to commit to. "
            f"{found.statement}"
        )
    commitment = watermark.commit(mark, model, private_key, args.layers)
    commitment.save(args.output)
    lines = [
        f"{args.output}: committed at {commitment.created}, signed by {commitment.signers[0]}",
        f"To have the time attested by somebody else, have this SHA-256 stamped: "
        f"{commitment.digest}",
        f"Keep {args.model} as the reference, to the byte, and {args.key_file} secret.",
    ]
    facts = {"created": commitment.created, "signers": list(commitment.signers)}
    _print(args, lines, {"output": args.output, "digest": commitment.digest, **facts})
    return 0


def _verify(args: argparse.Namespace) -> int:
    from keras_secure import watermark

    if (args.commitment is None) != (args.public_key is None):
        raise InputError("--commitment and --public-key belong together; give both or neither.")
    key = _key(args.key_file)
    model = _load(args.model)
    reference = None if args.reference is None else _load(args.reference)
    if args.commitment is None:
        if args.released is not None:
            raise InputError("--released is compared with a commitment; give --commitment too.")
        mark = watermark.SpreadSpectrum(key, args.payload)
        report = watermark.verify(model, mark, args.layers, reference=reference, tries=args.tries)
    else:
        if args.payload is not None:
            raise InputError("The commitment says what the payload is; leave --payload out.")
        report = watermark.verify_claim(
            model,
            watermark.Commitment.load(args.commitment),
            key,
            args.public_key,
            reference=reference,
            released=args.released,
            layers=args.layers,
            tries=args.tries,
        )
    _print(args, [report.statement], report.to_dict())
    return _EXIT_CODES[report.verdict]


def _load(path: str, compile: bool = False) -> Any:
    """Loads a model file that nobody vouches for: scanned first, and with Keras' own limits on."""
    if not Path(path).is_file() or Path(path).suffix != ".keras":
        raise InputError(f"{path} is no .keras file; give the file that `model.save` wrote.")
    try:
        return load_model(path, trust=None, compile=compile)
    except IntegrityError as error:
        raise IntegrityError(f"{path} is not safe to load and was not loaded: {error}") from error


def _new_key(path: str) -> bytes:
    if os.path.lexists(path):
        raise InputError(
            f"{path} exists already and may hold a key; choose another name, or leave --new-key "
            "out to use it."
        )
    return secrets.token_hex(32).encode()


def _key(path: str) -> bytes:
    """Reads the key: the file's bytes, without a line's end behind them."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST_KEY_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"The key file {os.fspath(path)} cannot be read: {error.strerror}. --new-key makes one."
        ) from error
    key = data.removesuffix(b"\n").removesuffix(b"\r")
    if not key or len(data) > _MOST_KEY_BYTES:
        raise InputError(
            f"The key file {path} is empty or longer than {_MOST_KEY_BYTES} bytes; it should hold "
            "a key of about 32 random bytes."
        )
    return key


def _print(args: argparse.Namespace, lines: list[str], content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2) if args.format == "json" else "\n".join(lines))
