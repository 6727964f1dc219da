#!/usr/bin/env bash
# Environments of their own for the scanners that ours is compared with.
#   benchmarks/peers/build_scanners.sh [FOLDER]      (default: beside this file, ignored by git)
# env-modelscan: modelscan with what it needs to look into HDF5 and SavedModels (h5py, and
# TensorFlow, whose protocol buffers it reads). env-modelaudit: modelaudit with h5py.
# PYTHON names an interpreter of Python 3.11. With SHARED=FOLDER, a site-packages folder that
# has TensorFlow is put behind env-modelscan's own instead of a second copy being installed.
set -euo pipefail
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-modelscan"
pip="$folder/env-modelscan/bin/pip"
"$pip" install "modelscan==0.8.8" "h5py>=3.9"
site=$("$folder/env-modelscan/bin/python" -c "import site; print(site.getsitepackages()[0])")
if [ -n "${SHARED:-}" ]; then
  echo "$SHARED" > "$site/shared.pth"
else
  "$pip" install "tensorflow==2.21.*"
fi

"$python" -m venv "$folder/env-modelaudit"
"$folder/env-modelaudit/bin/pip" install "modelaudit==0.2.54" "h5py>=3.9"

"$folder/env-modelscan/bin/python" -c "import modelscan, h5py, tensorflow"
"$folder/env-modelaudit/bin/python" -c "import modelaudit, h5py"
