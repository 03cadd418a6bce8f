#!/usr/bin/env bash
# From nothing to a sparse, quantized model on this machine: installs packages, builds, gets the default corpus and runs the whole
# pipeline: train, prune, recover, quantize, evaluate. Three to six minutes on two cores once built.
#
#   bash tools/quickstart.sh [FOLDER]     results go to FOLDER (default: build/quickstart); what is there is replaced
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/quickstart}

say() { printf '\n== %s\n' "$*" >&2; }

say "packages"
bash tools/install-packages.sh

say "build"
cmake -G Ninja -B build -DCMAKE_BUILD_TYPE=Release -DHONE_TESTS=OFF >/dev/null
cmake --build build -j "$(nproc)" >&2

say "corpus"
mkdir -p "$out"
bash data/fetch.sh kjv "$out/corpus" >&2
bin=build/bin
train=$out/corpus/kjv.train.txt valid=$out/corpus/kjv.valid.txt test=$out/corpus/kjv.test.txt

# 3.2M parameters; the recovery after pruning takes a tenth of the steps.
say "train a dense model"
"$bin/train" --data "$train" --valid "$valid" --valid-tokens 50k --valid-every 300 \
  --layers 4 --dim 256 --heads 4 --context 256 --batch 16 --steps 1200 --learning-rate 2e-3 \
  --output "$out/dense.h5" --plot "$out/dense.svg" --force
say "prune 60% of its weights"
"$bin/prune" "$out/dense.h5" --method wanda --sparsity 0.6 --calibration "$train" --output "$out/pruned.h5" --force --log-level warning
say "recover"
"$bin/train" --init "$out/pruned.h5" --data "$train" --batch 16 --steps 120 --learning-rate 1e-3 --output "$out/sparse.h5" --force
say "quantize to int8"
"$bin/quantize" "$out/sparse.h5" --type int8 --calibration "$train" --output "$out/sparse-int8.h5" --force --log-level warning

say "dense, sparse, and sparse int8 on text none of them has seen"
"$bin/eval" "$out/dense.h5" "$out/sparse.h5" "$out/sparse-int8.h5" --data "$test" --limit 100k --log-level warning |
  tee "$out/results.txt"
say "these models stay in the processor's cache; docs/results has the speeds of larger ones, which are read from memory at every token"

say "a sample of the smallest"
"$bin/generate" "$out/sparse-int8.h5" --prompt "In the beginning " --tokens 200 --temperature 0.8 --seed 1 --log-level warning
printf '\n\nmodels, plot and table: %s\n' "$out" >&2
