#!/usr/bin/env bash
# Environments of their own for the tools whose signatures and files ours must agree with.
#   benchmarks/peers/build_integrity.sh [FOLDER]      (default: beside this file, ignored by git)
# env-model-signing: OpenSSF model-signing. PYTHON names an interpreter of Python 3.11.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-model-signing"
# It imports pyOpenSSL for certificates without asking for it.
"$folder/env-model-signing/bin/pip" install "model-signing==1.1.1" pyOpenSSL
"$folder/env-model-signing/bin/python" -c "import model_signing, model_signing._cli, OpenSSL"
