#!/usr/bin/env bash
# The Keras releases whose exports the scanner must not flag, each in a folder of its own that goes
# in front of an interpreter's packages by PYTHONPATH: they share its TensorFlow.
#   benchmarks/peers/build_keras_versions.sh [FOLDER]      (default: beside this file, ignored by git)
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3}

for version in 3.13.2 3.14.1 3.15.1; do
  "$python" -m pip install --quiet --upgrade --no-deps --target "$folder/env-keras-$version" "keras==$version"
done
