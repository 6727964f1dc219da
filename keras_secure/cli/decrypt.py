"""`keras-secure decrypt`: an encrypted file or folder, whole and authentic or not at all."""

import argparse
from pathlib import Path

from keras_secure.cli.passphrase import add_passphrase_arguments, read_passphrase
from keras_secure.errors import IntegrityError
from keras_secure.integrity import decrypt

DONE, TAMPERED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the subcommand.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument("path", help="encrypted file")
    parser.add_argument("output", help="file or folder to create")
    parser.add_argument(
        "--identity",
        action="append",
        default=[],
        metavar="FILE",
        help="identity file of age, or OpenSSH private key; may be given several times",
    )
    parser.add_argument("--key-file", metavar="FILE", help="file of the 32 bytes that decrypt")
    add_passphrase_arguments(parser)
    parser.add_argument(
        "--keep-archive", action="store_true", help="leave a folder as the tar archive it is"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")


def main(args: argparse.Namespace) -> int:
    """Decrypts `args.path`.

    Args:
        args: What `add_arguments` declares.

    Returns:
        The exit code: 0 decrypted, 1 the file is not what was encrypted.

    Raises:
        InputError: Arguments, paths or keys cannot be used.
    """
    try:
        output = decrypt(
            args.path,
            args.output,
            identities=[Path(path) for path in args.identity],
            key=args.key_file,
            passphrase=read_passphrase(args, others=args.identity or args.key_file),
            unpack_folder=not args.keep_archive,
            overwrite=args.overwrite,
        )
    except IntegrityError as error:
        print(f"TAMPERED: {error}")
        return TAMPERED
    print(f"OK: {args.path} is decrypted in {output}")
    return DONE
