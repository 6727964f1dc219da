"""What commands have in common that read bundles, verified or not, and tell about them."""

import argparse
import json
from typing import Any


def add_telling_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares whom to believe and how to tell.

    Args:
        parser: The subcommand's parser.
    """
    parser.add_argument(
        "--trust", metavar="FILE", help="public key or trust file; without it nothing is verified"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def tell(found: Any, as_json: bool) -> None:
    """Prints what was found.

    Args:
        found: Has `to_dict()` and `describe()`, which gives lines.
        as_json: Whether to print the former.
    """
    if as_json:
        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(found.describe()))
