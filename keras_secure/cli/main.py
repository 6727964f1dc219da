"""Dispatches the subcommands of `keras-secure`."""

import importlib
import logging
import sys

from absl import app
from absl import logging as absl_logging
from absl.flags import argparse_flags

from keras_secure.errors import SecurityError

# Only the module of the chosen one is imported: files are verified and scanned without Keras.
_SUBCOMMANDS = {
    "api-key": ("api_key", "make, revoke or list the API keys of a server"),
    "audit-log": ("audit_log", "check the audit log of a server, or read what it keeps"),
    "decrypt": ("decrypt", "open an encrypted file or folder"),
    "demo": ("demo.command", "harden a model on real data and report what was gained"),
    "diff": ("diff", "tell what changed between two bundles"),
    "encrypt": ("encrypt", "encrypt a file or folder for those who may read it"),
    "inspect": ("inspect", "tell what is in a bundle"),
    "keygen": ("keygen", "make a key pair to sign with"),
    "privacy": ("privacy", "check that the promises of private training hold, and are tested"),
    "repair": ("repair", "rebuild damaged parts of a signed file or folder"),
    "scan": ("scan", "look for what is dangerous in a model file, without loading it"),
    "serve": ("serve", "serve verified bundles in TensorFlow Serving's REST dialect"),
    "sign": ("sign", "sign a file or folder"),
    "verify": ("verify", "check a signed file or folder and name whatever changed"),
    "version": ("version", "print the versions of this library and of what it runs on"),
    "watermark": ("watermark", "embed a mark of ownership, commit to it, or prove it"),
}


def parse(argv):
    """Parses the command line; wrong usage ends with exit code 2."""
    parser = argparse_flags.ArgumentParser(
        prog="keras-secure", description="Security for Keras models."
    )
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for name, (_, summary) in _SUBCOMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary, description=summary + ".")
        if name in argv[1:2]:
            _module(name).add_arguments(subparser)
    return parser.parse_args(argv[1:])


def main(options):
    """Runs the chosen subcommand and returns its exit code.

    0 is success, 1 a failed check, 2 input that cannot be used, 3 a claim that is neither proved
    nor refuted, 130 an interruption.
    """
    # What TensorFlow notes about saving is no news to whoever runs a command.
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    try:
        return _module(options.subcommand).main(options)
    except SecurityError as error:
        print(f"keras-secure: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        # The disk, a folder or a pipe, not a fault of ours: its own words tell more than our lines.
        place = "" if error.filename is None else f"{error.filename}: "
        print(f"keras-secure: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-secure: interrupted; nothing was written.", file=sys.stderr)
        return 130


def _module(subcommand):
    return importlib.import_module(f"keras_secure.cli.{_SUBCOMMANDS[subcommand][0]}")


def run():
    """Entry point of the `keras-secure` script."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    run()
