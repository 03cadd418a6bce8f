#!/usr/bin/env bash
# PCRE2 10.42 in UCP mode, with Unicode 14 tables: \s matches U+180E (MONGOLIAN VOWEL SEPARATOR), which has not been white space since
# Unicode 6.3, because \s takes in \h, a list of its own that kept it. A tokenizer whose published pattern has \s (GPT-2's) splits
# such text otherwise in PCRE2 than in Python's or Rust's regular expressions, unless White_Space is spelled out.
#
# Seen on Debian 12 (pcre2-utils 10.42-1):
#   /^\s$/utf,ucp matches U+180E; /^\p{Z}$/utf,ucp does not; /^\s$/ of Python 3.11 does not
#
# Unpacks the package in a temporary folder. Status 0 while this holds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -q pcre2-utils=10.42-1 >/dev/null 2>&1 || { echo "pcre2-utils 10.42-1 is not in this machine's archive" >&2; exit 2; }
dpkg-deb -x pcre2-utils_*.deb .
printf '/^\\s$/utf,ucp\n    \\x{180e}\n\n/^\\p{Z}$/utf,ucp\n    \\x{180e}\n' >script
usr/bin/pcre2test -q script | tee answer
python=$(/usr/bin/python3 -c 'import re; print(bool(re.match(r"^\s$", "\u180e")))')
echo "Python's re: $python"
[ "$(grep -c '^ 0: ' answer)" = 1 ] && [ "$(grep -c '^No match' answer)" = 1 ] && [ "$python" = False ]
