#!/usr/bin/env bash
# Environments of their own for the attack libraries that ours are compared with.
#   benchmarks/peers/build_attacks.sh [FOLDER]      (default: beside this file, ignored by git)
# env-attacks: PyTorch with foolbox, the Adversarial Robustness Toolbox and the official AutoAttack
# (as packaged in pyautoattack). env-attacks-tensorflow: TensorFlow with cleverhans,
# foolbox and the toolbox. PYTHON names an interpreter of Python 3.11.
set -euo pipefail
# The toolbox imports two packages that it does not ask for: packaging, multiprocess.
folder=${1:-$(cd "$(dirname "$0")" && pwd)}
python=${PYTHON:-python3.11}

"$python" -m venv "$folder/env-attacks"
pip="$folder/env-attacks/bin/pip"
# Alone and first: what follows must find this build, not bring one for accelerators.
"$pip" install "torch==2.13.0" numpy
"$pip" install "torch==2.13.0" "foolbox==3.3.4" "adversarial-robustness-toolbox==1.20.1" \
  "pyautoattack==0.2.0" packaging multiprocess

"$python" -m venv "$folder/env-attacks-tensorflow"
pip="$folder/env-attacks-tensorflow/bin/pip"
"$pip" install "tensorflow==2.21.*" "foolbox==3.3.4" "adversarial-robustness-toolbox==1.20.1" \
  packaging multiprocess
# Its requirements reach far beyond the TensorFlow 2 attacks, which need these two alone.
"$pip" install --no-deps "cleverhans==4.0.0"

"$folder/env-attacks/bin/python" -c "import art, foolbox, pyautoattack, art.attacks.evasion.auto_attack"
"$folder/env-attacks-tensorflow/bin/python" -c "import art, cleverhans.tf2, foolbox, art.attacks.evasion.auto_attack"
