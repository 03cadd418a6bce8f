#!/usr/bin/env bash
# From nothing to a sparse, quantized model on this machine: installs packages, builds, gets the default corpus and runs the whole
# pipeline: train, prune, recover, quantize, evaluate. Then the speed of a larger shape, whose weights are read from memory. Three to
# six minutes on two cores once built, by their speed.
#
#   bash tools/quickstart.sh [FOLDER]     results go to FOLDER (default: build/quickstart); what is there is replaced
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mkdir -p "${1:-build/quickstart}"
out=$(cd "${1:-build/quickstart}" && pwd)
log=$out/build.log

say() { printf '\n== %s\n' "$*" >&2; }
# Long output that nobody needs while it goes well.
quietly() {
  "$@" >>"$log" 2>&1 && return
  tail -n 30 "$log" >&2
  printf 'error: %s failed; all that it said is in %s\n' "$*" "$log" >&2
  exit 1
}

say "packages and build (details: $log)"
: >"$log"
quietly bash tools/install-packages.sh
quietly cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DHONE_TESTS=OFF
quietly cmake --build build -j "$(nproc)"

say "corpus"
bash data/fetch.sh kjv "$out/corpus" >&2
bin=$root/build/bin
cd "$out"  # short names in what the tools print
train=corpus/kjv.train.txt valid=corpus/kjv.valid.txt test=corpus/kjv.test.txt

# 3.2M parameters; the recovery after pruning takes a tenth of the steps.
say "train a dense model"
"$bin/train" --data $train --valid $valid --valid-tokens 50k --valid-every 100 \
  --layers 4 --dim 256 --heads 4 --context 256 --batch 16 --steps 400 --learning-rate 2e-3 \
  --output dense.h5 --plot dense.svg --force
say "prune 60% of its weights"
"$bin/prune" dense.h5 --sparsity 0.6 --calibration $train --calibration-windows 32 --output pruned.h5 --force --log-level error >&2
say "recover"
"$bin/train" --init pruned.h5 --data $train --batch 16 --steps 40 --learning-rate 1e-3 --output sparse.h5 --force
say "quantize to int8"
"$bin/quantize" sparse.h5 --type int8 --calibration $train --output small.h5 --force --log-level warning

say "evaluate on text that none of them has seen"
"$bin/eval" dense.h5 sparse.h5 small.h5 --data $test --limit 100k --no-speed --log-level warning --format json >scores.json

# A model of this size stays in the processor's cache. What sparsity and int8 gain in speed shows where weights come from memory:
# here with untrained ones, which take as long to read as trained ones.
say "the speed of dense and sparse int8 with 113M parameters"
"$bin/train" --steps 0 --layers 16 --dim 768 --heads 12 --context 1024 --output large-dense.h5 --force --log-level warning
"$bin/prune" large-dense.h5 --sparsity 0.6 --output large-pruned.h5 --force --log-level error >&2
"$bin/quantize" large-pruned.h5 --type int8 --output large-small.h5 --force --log-level error >&2
rm -f large-pruned.h5
"$bin/bench" large-dense.h5 large-small.h5 --prompt 128 --generate 32 --log-level warning --format json >speeds.json
rm -f large-dense.h5 large-small.h5

say "results"
python3 "$root/tools/quickstart_table.py" scores.json speeds.json | tee results.txt

say "a sample of the smallest"
"$bin/generate" small.h5 --prompt "In the beginning " --tokens 200 --temperature 0.8 --seed 1 --log-level warning
printf '\n\nmodels, plot and table: %s\n' "$out" >&2
