"""`keras-secure encrypt`: a file or folder, for those who may read it."""

import argparse

from keras_secure.cli.passphrase import add_passphrase_arguments, read_passphrase
from keras_secure.errors import InputError
from keras_secure.integrity import encrypt, generate_identity

DONE = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", nargs="?", help="file or folder to encrypt")
    parser.add_argument("output", nargs="?", help="file to create")
    parser.add_argument(
        "--recipient",
        action="append",
        default=[],
        metavar="KEY",
        help="who can decrypt it: age1..., ssh-ed25519 ..., or a file with one on each line; "
        "may be given several times",
    )
    parser.add_argument("--key-file", metavar="FILE", help="file of 32 random bytes that decrypt")
    add_passphrase_arguments(parser)
    parser.add_argument(
        "--format",
        choices=("age", "aes-gcm"),
        help="default: age's where pyrage is installed, except with --key-file",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument(
        "--new-identity",
        metavar="FILE",
        help="make a key pair: the secret half goes to FILE, the recipient is printed",
    )


def main(args: argparse.Namespace) -> int:
    """Encrypts `args.path`, or makes the key pair that is asked for.

    Args:
        args: What `add_arguments` declares.

    Returns:
        0; errors are raised.

    Raises:
        InputError: Arguments, paths or keys cannot be used.
    """
    if args.new_identity is not None:
        if args.path is not None or args.recipient or args.key_file:
            raise InputError("--new-identity makes a key pair and encrypts nothing; give it alone.")
        print(generate_identity(args.new_identity))
        return DONE
    if args.output is None:
        raise InputError("Give the file or folder to encrypt, and the file to create.")
    output = encrypt(
        args.path,
        args.output,
        recipients=args.recipient,
        key=args.key_file,
        passphrase=read_passphrase(args, others=args.recipient or args.key_file, confirm=True),
        file_format=args.format,
        overwrite=args.overwrite,
    )
    print(f"OK: {args.path} is encrypted in {output}")
    return DONE
