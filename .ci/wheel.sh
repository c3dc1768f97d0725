#!/usr/bin/env bash
# The wheel in an empty environment, away from the checkout: what somebody gets who installs it.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/env"
pip() { "$work/env/bin/python" -m pip --disable-pip-version-check -q "$@"; }
pip wheel --no-deps -w "$work" "$here"
pip install "torch==2.13.0+cpu" 2>/dev/null || pip install "torch==2.13.0"
pip install "$work"/sodakit-*.whl
cd "$work"
mkdir recordings
"$work/env/bin/python" - <<'P'
import numpy as np
import sodakit

seconds = np.arange(2 * 24_000) / 24_000
sodakit.write_wave("recordings/hum.wav", sodakit.Wave((0.3 * np.sin(440 * seconds)).astype("float32"), 24_000))
P
env/bin/sodakit --version
env/bin/sodakit codec encode recordings/hum.wav --out hum.npz
env/bin/sodakit codec decode hum.npz --out hum.wav
env/bin/sodakit train --recipe soda_135m --dry-run >/dev/null
test -f env/lib/python3*/site-packages/sodakit/py.typed
echo "The wheel works: $(du -h "$work"/sodakit-*.whl | cut -f1)."
