#!/usr/bin/env bash
# Everything that waits for a GPU, in order of worth, in 25 minutes: each part has its own time limit and writes its table as
# it goes, so that whoever is cut off loses only what was not reached.
#
#   benchmarks/gpu_all.sh                    on a GPU; tables in runs/gpu, to be put into the pages by benchmarks/gpu_pages.py
#   benchmarks/gpu_all.sh --dry              on a CPU in toy sizes, to try the whole of it
#   benchmarks/gpu_all.sh --only "tests training"
#   LIMIT_S=60 benchmarks/gpu_all.sh         no part takes longer than that
#
# It installs nothing from the internet: packages that are missing are taken from the folder WHEELS (default: wheels/), where
# there is one (pip download -d wheels -r ... on a machine that has the internet), and sodakit itself from this tree.
set -uo pipefail
cd "$(dirname "$0")/.."

dry= only= out=runs/gpu
while [ $# -gt 0 ]; do
  case "$1" in
    --dry) dry=1 ;;
    --only) only=$2; shift ;;
    --out) out=$2; shift ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" SODAKIT_GPU_ALL=1
# What torch has compiled serves the next part, and the next half hour.
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR:-$PWD/runs/inductor}" TORCHINDUCTOR_FX_GRAPH_CACHE=1
begin=$SECONDS
total=$([ -n "$dry" ] && echo 600 || echo 1500)

# part NAME LIMIT_S COMMAND...: what it prints is in NAME.log; ends by itself or is ended.
part() {
  local name=$1 limit=$2; shift 2
  if [ -n "$only" ] && [[ " $only " != *" $name "* ]]; then return; fi
  local left=$((total - (SECONDS - begin)))
  [ "${LIMIT_S:-$limit}" -lt "$limit" ] && limit=$LIMIT_S
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then echo "$name: not reached"; failed="$failed $name"; return; fi
  local start=$SECONDS
  timeout --kill-after=10 "$limit" "$@" > "$out/$name.log" 2>&1
  local status=$?
  echo "$name: status $status after $((SECONDS - start)) s of at most $limit"
  [ "$status" -eq 0 ] || { failed="$failed $name"; tail -n 3 "$out/$name.log"; }
}
failed=
# All there are for a GPU: to collect the others takes longer than to run these.
gpu_tests=(tests/generate/test_step_graphs.py tests/gpu)

wheels=${WHEELS:-wheels}
if [ -d "$wheels" ]; then
  part install 60 "$python" -m pip install -q --no-index --no-deps --find-links "$wheels" "$wheels"/*.whl
fi
if ! "$python" -c "import sodakit.cli, tyro, soxr, soundfile, safetensors, tokenizers, pyarrow" 2> "$out/imports.log"; then
  tail -n 1 "$out/imports.log"; echo "Put the missing packages into $wheels/."; exit 1
fi

if [ -n "$dry" ]; then
  part doctor 120 "$python" -m sodakit doctor --device cpu --storage "$out" --out "$out/doctor.json"
  part tests 120 "$python" -m pytest -v --tb=short -m gpu "${gpu_tests[@]}"
  part training 120 "$python" benchmarks/training_gpu.py --device cpu --sizes nano --context 64 --rounds 1 --steps 1 \
    --contenders "sodakit, packed" "sodakit, depth" transformers --limit-s 100 --out "$out/training.md"
  part decoding 120 "$python" benchmarks/decode_gpu.py --device cpu --sizes nano --batches 2 --frames 2 --prompt 24 --rounds 1 \
    --contenders sodakit "sodakit, depth" --limit-s 100 --out "$out/decoding.md"
  part attention 120 "$python" benchmarks/attention_routes.py --device cpu --sizes soda_135m --tokens 128 --rows 1 --rounds 1 \
    --out "$out/attention.md"
  part mimi 120 "$python" benchmarks/mimi_gpu.py --device cpu --toy --batches 2 --seconds 0.5 --rounds 1 \
    --contenders sodakit transformers --limit-s 50 --out "$out/mimi.md"
else
  part doctor 90 "$python" -m sodakit doctor --bench --storage "$out" --out "$out/doctor.json"
  part tests 240 "$python" -m pytest -v --tb=short -m gpu "${gpu_tests[@]}"
  part attention 150 "$python" benchmarks/attention_routes.py --out "$out/attention.md"
  part training 540 "$python" benchmarks/training_gpu.py --limit-s 500 --out "$out/training.md"
  part decoding 360 "$python" benchmarks/decode_gpu.py --limit-s 340 --out "$out/decoding.md"
  part mimi 180 "$python" benchmarks/mimi_gpu.py --limit-s 160 --out "$out/mimi.md"
fi
echo "all: $((SECONDS - begin)) s;${failed:+ not done:$failed;} tables in $out, for the pages: python benchmarks/gpu_pages.py $out"
[ -z "$failed" ]
