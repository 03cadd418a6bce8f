#!/usr/bin/env bash
# jsfive 0.4.2 (npm) reads 64-bit integers of an HDF5 file as JavaScript numbers, without a word where that loses their lower bits.
# Bit masks in uint64 arrays come out with other bits; h5wasm 0.10.3 gives BigInt and is exact. Who stores bits for readers of any
# language stores bytes.
#
# Seen on Debian 12 with node 20 and h5py 3.7:
#   written 17594282831167882328   jsfive 17594282831167883000 (number)   h5wasm 17594282831167882328 (bigint)
#
# Needs node, npm and python3-h5py; installs the two npm packages in a temporary folder. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" jsfive@0.4.2 h5wasm@0.10.3 >/dev/null
/usr/bin/python3 - <<'PY'
import h5py, numpy as np
with h5py.File("mask.h5", "w") as file:
    file["mask"] = np.array([17594282831167882328, 1], dtype="<u8")
PY
cat >read.mjs <<'JS'
import fs from "fs";
import * as jsfive from "jsfive";
import h5wasm from "h5wasm/node";

const bytes = fs.readFileSync("mask.h5");
const loose = new jsfive.File(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)).get("mask").value[0];
await h5wasm.ready;
const exact = new h5wasm.File("mask.h5", "r").get("mask").value[0];
console.log(`jsfive ${loose} (${typeof loose})   h5wasm ${exact} (${typeof exact})`);
process.exit(typeof loose === "number" && BigInt(loose) !== 17594282831167882328n && exact === 17594282831167882328n ? 0 : 1);
JS
node read.mjs
