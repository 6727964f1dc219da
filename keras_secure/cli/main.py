"""Dispatches the subcommands of `keras-secure`."""

import logging
import sys

from absl import app
from absl import logging as absl_logging
from absl.flags import argparse_flags

from keras_secure.cli import privacy, verify, version
from keras_secure.cli.demo import command as demo
from keras_secure.errors import SecurityError

_SUBCOMMANDS = {
    "demo": (demo, "harden a model on real data and report what was gained"),
    "privacy": (privacy, "check that the promises of private training hold, and are tested"),
    "verify": (verify, "check a signed bundle and name every file that changed"),
    "version": (version, "print the versions of this library and of what it runs on"),
}


def parse(argv):
    """Parses the command line; wrong usage ends with exit code 2."""
    parser = argparse_flags.ArgumentParser(
        prog="keras-secure", description="Security for Keras models."
    )
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for name, (module, summary) in _SUBCOMMANDS.items():
        module.add_arguments(subparsers.add_parser(name, help=summary, description=summary + "."))
    return parser.parse_args(argv[1:])


def main(options):
    """Runs the chosen subcommand and returns its exit code.

    0 is success, 1 a failed check, 2 input that cannot be used, 130 an interruption.
    """
    # What TensorFlow notes about saving is no news to whoever runs a command.
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    try:
        return _SUBCOMMANDS[options.subcommand][0].main(options)
    except SecurityError as error:
        print(f"keras-secure: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nkeras-secure: interrupted; nothing was written.", file=sys.stderr)
        return 130


def run():
    """Entry point of the `keras-secure` script."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    run()
