#!/usr/bin/env bash
# An environment of its own for schemathesis, which asks a server whatever its OpenAPI allows.
#   benchmarks/peers/build_schemathesis.sh [FOLDER]      (default: beside this file, ignored by git)
# PYTHON names an interpreter of Python 3.11 or newer.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-schemathesis"
"$folder/env-schemathesis/bin/pip" install "schemathesis==4.32.5"
"$folder/env-schemathesis/bin/schemathesis" --version
