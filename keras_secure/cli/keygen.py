"""`keras-secure keygen`: a key pair to sign with, the private half under a passphrase."""

import argparse
import os
from pathlib import Path

from keras_secure.cli.passphrase import add_passphrase_arguments, read_passphrase
from keras_secure.errors import InputError
from keras_secure.integrity import (
    Trust,
    TrustedKey,
    endorse,
    fingerprint,
    generate_key_pair,
    load_private_key,
    load_trust,
    save_private_key,
    save_public_key,
    save_trust,
)
from keras_secure.integrity.atomic import write_new, writing
from keras_secure.integrity.key_files import is_encrypted
from keras_secure.integrity.keys import KINDS
from keras_secure.integrity.times import as_time

DONE = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="file for the private key; the public one is PATH.pub")
    parser.add_argument(
        "--kind",
        choices=KINDS,
        default="ed25519",
        help="ed25519 (default); ec-p256, which OpenSSF model-signing can check; hybrid, which "
        "withstands quantum computers",
    )
    add_passphrase_arguments(parser)
    parser.add_argument(
        "--no-passphrase", action="store_true", help="leave the private key unencrypted"
    )
    parser.add_argument("--name", default="", help="what people call the key")
    parser.add_argument("--valid-until", metavar="DATE", help="for example 2027-12-31")
    parser.add_argument(
        "--trust", metavar="FILE", help="trust file to enter the key into; made if there is none"
    )
    parser.add_argument(
        "--endorsed-by",
        metavar="KEY",
        action="append",
        default=[],
        help="old private key that vouches for the new one, under the same passphrase if it has "
        "one; writes PATH.endorsement; may be given several times",
    )


def main(args: argparse.Namespace) -> int:
    """Makes a key pair and writes its files.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0; errors are raised.

    Raises:
        InputError: A file is there already, or an argument cannot be used.
    """
    public_path, endorsement_path = f"{args.path}.pub", Path(f"{args.path}.endorsement")
    for path in (args.path, public_path, *([endorsement_path] if args.endorsed_by else [])):
        if os.path.lexists(path):
            raise InputError(f"{path} exists and was kept. Give another path.")
    for option, value in (("--name", args.name), ("--valid-until", args.valid_until)):
        if value and args.trust is None and not args.endorsed_by:
            raise InputError(
                f"{option} stands in a trust file or an endorsement, not in a key; give --trust or "
                "--endorsed-by too."
            )
    passphrase = read_passphrase(args, others=args.no_passphrase, confirm=True)
    private_key, public_key = generate_key_pair(args.kind)
    # Whatever may fail comes before the first file.
    trust = _extended_trust(args, public_key)
    endorsement = _endorsement(args, public_key, passphrase)
    made = []
    try:
        made.append(save_private_key(private_key, args.path, passphrase))
        made.append(save_public_key(public_key, public_path))
        if endorsement is not None:
            with writing(endorsement_path):
                write_new(endorsement_path, endorsement)
            made.append(endorsement_path)
        if trust is not None:
            save_trust(trust, args.trust)
    except BaseException:
        # Half a key pair is of no use, and would be in the way of the next attempt.
        for path in made:
            path.unlink()
        raise
    print(f"private key: {args.path} (keep it to yourself)")
    print(f"public key:  {public_path} (give it to whoever verifies)")
    if endorsement is not None:
        print(f"endorsement: {endorsement_path} (give it to whoever trusts the old key)")
    if trust is not None:
        print(f"trust file:  {args.trust}")
    print(f"fingerprint: {fingerprint(public_key)}")
    return DONE


def _extended_trust(args: argparse.Namespace, public_key) -> Trust | None:
    if args.trust is None:
        return None
    if os.path.lexists(args.trust):
        return load_trust(args.trust).add(public_key, args.name, not_after=args.valid_until)
    until = None if args.valid_until is None else as_time(args.valid_until, "--valid-until")
    return Trust((TrustedKey(public_key, args.name, not_after=until),))


def _endorsement(args: argparse.Namespace, public_key, passphrase: str | None) -> bytes | None:
    if not args.endorsed_by:
        return None
    old = []
    for path in args.endorsed_by:
        old.append(load_private_key(path, passphrase if is_encrypted(path) else None))
    return endorse(public_key, old, name=args.name, not_after=args.valid_until)
