#!/usr/bin/env bash
# nccopy (netCDF 4.9.0), copying an HDF5 file that netCDF can read: a scalar dataset of a fixed-length ASCII string becomes one of a
# variable-length string, while fixed-length string attributes stay fixed; and the root gets a dataset phony_dim_N for each length of
# an array. A reader that expects the types that the writer made refuses the copy. Who reads files that others may have copied
# takes both kinds of string, and passes over datasets it does not know.
#
# Seen on Debian 12 (netcdf-bin 1:4.9.0-3+b1, HDF5 1.10.8):
#   text: fixed-length before, variable-length after; attribute note: fixed-length both times; added: phony_dim_0
#
# Needs python3-h5py and netcdf-bin (apt). Status 0 while this holds.
set -euo pipefail
command -v nccopy >/dev/null || { echo "nccopy is missing: apt-get install netcdf-bin" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
/usr/bin/python3 - <<'PY'
import h5py, numpy as np
with h5py.File("a.h5", "w", track_order=True) as file:
    file.create_dataset("text", data=np.bytes_(b'{"a": 1}'))
    file["values"] = np.arange(6, dtype="<f4")
    file.attrs["note"] = np.bytes_(b"kept")
PY
nccopy a.h5 b.h5
/usr/bin/python3 - <<'PY'
import h5py, sys

def kind(item):
    info = h5py.check_string_dtype(item.dtype)
    return "variable-length" if info.length is None else "fixed-length"

with h5py.File("a.h5") as a, h5py.File("b.h5") as b:
    added = sorted(set(b) - set(a))
    note = [h5py.h5a.open(file.id, b"note").get_type().is_variable_str() for file in (a, b)]
    print(f"text: {kind(a['text'])} before, {kind(b['text'])} after; attribute note: "
          f"{' and '.join('variable-length' if v else 'fixed-length' for v in note)}; added: {', '.join(added)}")
    sys.exit(0 if kind(a["text"]) == "fixed-length" and kind(b["text"]) == "variable-length" and not any(note)
             and any(name.startswith("phony_dim_") for name in added) else 1)
PY
