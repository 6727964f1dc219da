"""`keras-secure sign`: a file or folder, so that whatever changes in it can be named."""

import argparse

from keras_secure.cli.passphrase import add_passphrase_arguments, read_passphrase
from keras_secure.errors import InputError
from keras_secure.integrity import cosign, fingerprint, load_private_key, sign
from keras_secure.integrity.key_files import is_encrypted

DONE = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="file or folder to sign")
    parser.add_argument(
        "--key",
        action="append",
        required=True,
        metavar="FILE",
        help="private key; may be given several times, all under one passphrase",
    )
    add_passphrase_arguments(parser)
    parser.add_argument("--signature", metavar="FILE", help="where to write the signature")
    parser.add_argument(
        "--parity",
        metavar="SHARE",
        help="write parity to repair it from: a share of its size such as 0.1, or a number of "
        "shards of 1 MiB such as 20",
    )
    parser.add_argument(
        "--serial", type=int, default=0, help="number that grows with each release (default 0)"
    )
    parser.add_argument("--root-name", action="store_true", help="its name must stay what it is")
    parser.add_argument(
        "--allow-symlinks", action="store_true", help="sign links that lead inside the folder"
    )
    parser.add_argument(
        "--add-to",
        metavar="TRUST",
        help="keep the signatures that are there, which must be by these trusted keys (a public "
        "key or a trust file), and add to them",
    )


def main(args: argparse.Namespace) -> int:
    """Signs `args.path`.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0; errors are raised.

    Raises:
        SecurityError: A key or an argument cannot be used, or the contents cannot be signed.
    """
    locked = [is_encrypted(path) for path in args.key]
    passphrase = read_passphrase(args, others=not any(locked))
    keys = [
        load_private_key(path, passphrase if encrypted else None)
        for path, encrypted in zip(args.key, locked, strict=True)
    ]
    if args.add_to is not None:
        path = cosign(args.path, keys, args.add_to, signature=args.signature)
    else:
        path = sign(
            args.path,
            keys,
            parity=None if args.parity is None else _parity(args.parity),
            serial=args.serial,
            root_name=args.root_name,
            allow_symlinks=args.allow_symlinks,
            signature=args.signature,
        )
    names = ", ".join(fingerprint(key.public_key()) for key in keys)
    print(f"{args.path} is signed by {names}: {path}")
    return DONE


def _parity(text: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError as error:
        raise InputError(
            f"--parity is {text!r}; expected a share such as 0.1, or a number of shards such as 20."
        ) from error
