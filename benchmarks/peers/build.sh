#!/usr/bin/env bash
# Environments of their own for the libraries that dp_step.py compares with.
#   benchmarks/peers/build.sh [FOLDER]      (default: beside this file, ignored by git)
# PYTHON names an interpreter of Python 3.10 or 3.11, which tensorflow-privacy needs.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-tensorflow-privacy"
pip="$folder/env-tensorflow-privacy/bin/pip"
"$pip" install "tensorflow==2.15.*" "numpy<2" "dp-accounting==0.4.3" \
  "tensorflow-probability==0.23.*" "tensorflow-estimator==2.15.*" \
  scipy scikit-learn pandas packaging matplotlib immutabledict
# Its pins leave pip searching for long; what it needs is installed above.
"$pip" install --no-deps "tensorflow-privacy==0.9.0"

"$python" -m venv "$folder/env-opacus"
"$folder/env-opacus/bin/pip" install "torch==2.13.0" "opacus==1.6.*" numpy

"$folder/env-tensorflow-privacy/bin/python" -c "import tensorflow_privacy"
"$folder/env-opacus/bin/python" -c "import opacus"
