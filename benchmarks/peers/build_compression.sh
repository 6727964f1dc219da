#!/usr/bin/env bash
# An environment of its own for the toolkit that compression.py compares with.
#   benchmarks/peers/build_compression.sh [FOLDER]      (default: beside this file, ignored by git)
# env-tfmot: tensorflow-model-optimization with tf_keras, the Keras it works on.
# PYTHON names an interpreter of Python 3.11. With SHARED=FOLDER, a site-packages folder that
# has TensorFlow is put behind the environment's own instead of a second copy being installed.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-tfmot"
pip="$folder/env-tfmot/bin/pip"
site=$("$folder/env-tfmot/bin/python" -c "import site; print(site.getsitepackages()[0])")
if [ -n "${SHARED:-}" ]; then
  echo "$SHARED" > "$site/shared.pth"
else
  "$pip" install "tensorflow==2.21.*"
fi
"$pip" install --no-deps "tf_keras==2.21.*" "tensorflow-model-optimization==0.8.1"
"$pip" install "absl-py>=1.2" "dm-tree>=0.1.1" "six>=1.14" "numpy"

TF_USE_LEGACY_KERAS=1 "$folder/env-tfmot/bin/python" -c "import tensorflow_model_optimization"
