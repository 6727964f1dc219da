"""Passphrases from a prompt, a file or the environment; never from the command line.

Arguments of a process can be read by every user of the machine, and shells remember them.
"""

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from keras_secure.errors import InputError

_MAX_SIZE = 4096


def add_passphrase_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares where a passphrase may come from.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument(
        "--passphrase-file", metavar="FILE", help="file whose first line is the passphrase"
    )
    parser.add_argument(
        "--passphrase-env", metavar="NAME", help="environment variable that holds the passphrase"
    )


def read_passphrase(
    args: argparse.Namespace, *, others: Any = None, confirm: bool = False
) -> str | None:
    """Reads a passphrase from where the arguments say, or asks for it.

    Args:
        args: What `add_passphrase_arguments` declares.
        others: Whatever was given instead of a passphrase; then none is asked for.
        confirm: Whether to ask twice, since a mistyped one could not be corrected.

    Returns:
        The passphrase; None if `others` is given and no passphrase is.

    Raises:
        InputError: It cannot be read, is empty, or was typed differently the second time.
    """
    if args.passphrase_file is not None and args.passphrase_env is not None:
        raise InputError("Give one of --passphrase-file and --passphrase-env.")
    if args.passphrase_file is not None:
        return passphrase_from_file(args.passphrase_file)
    if args.passphrase_env is not None:
        value = os.environ.get(args.passphrase_env)
        if not value:
            raise InputError(f"The environment variable {args.passphrase_env} is not set.")
        return value
    return None if others else _from_prompt(confirm)


def passphrase_from_file(path: str) -> str:
    """Reads a passphrase from the first line of a file.

    Args:
        path: The file.

    Returns:
        The passphrase.

    Raises:
        InputError: The file cannot be read, or its first line is empty.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_SIZE + 1)
        text = data.decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(
            f"The passphrase file {Path(path).name} cannot be read: {reason}."
        ) from error
    line = text.split("\n", 1)[0].removesuffix("\r")
    if not line or len(data) > _MAX_SIZE:
        raise InputError(
            f"The passphrase file {Path(path).name} has an empty first line or is longer than "
            f"{_MAX_SIZE} bytes. Write the passphrase into its first line."
        )
    return line


def _from_prompt(confirm: bool) -> str:
    if not sys.stdin.isatty():
        raise InputError(
            "There is no terminal to ask for a passphrase. Give --passphrase-file or "
            "--passphrase-env, or keys instead."
        )
    passphrase = getpass.getpass("Passphrase: ")
    if not passphrase:
        raise InputError("The passphrase is empty. Give one.")
    if confirm and getpass.getpass("The same again: ") != passphrase:
        raise InputError("The two passphrases differ; nothing was encrypted. Try again.")
    return passphrase
