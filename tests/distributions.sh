#!/usr/bin/env bash
# Both commands of the README, from a clean clone of this repository's HEAD, in fresh roots of other distributions: quickstart, and all
# tests but those of the sanitizers, which look at our code and not at theirs. Run by hand, as root; needs debootstrap and git, and in
# the roots nothing from the network but packages. Ends with a table; status 1 where anything failed.
#
#   bash tests/distributions.sh [--roots FOLDER] [--debian URL] [--ubuntu URL] [--keyring FILE] [--ccache] [--only STEP] NAME…
#
# NAME: bookworm, trixie or noble; with another compiler: trixie+clang. Roots are kept and used again; remove one to have it made anew.
# --roots FOLDER   where the roots and the logs lie (default: build/distributions)
# --debian URL     the archive to install from (default: what this machine's apt uses); --ubuntu URL likewise
# --keyring FILE   Ubuntu's keys, where this machine is a Debian (its package ubuntu-keyring has them), or the other way round
# --ccache         compile through ccache, whose store stays in the root: a second try after a fix takes minutes. One object serves builds
#                  with and without -Werror, so that a step whose log has a warning counts as failed.
# --only STEP      quickstart or tests alone
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)

fail() {
  echo "error: $*" >&2
  exit "${status:-1}"
}
usage() { status=2 fail "$1 (see the head of tests/distributions.sh)"; }

roots=$repository/build/distributions debian='' ubuntu='' keyring='' ccache='' only='' names=()
while [ $# -gt 0 ]; do
  case $1 in
    --roots | --debian | --ubuntu | --keyring | --only)
      [ $# -ge 2 ] || usage "$1 needs a value"
      declare "${1#--}=$2"
      shift
      ;;
    --ccache) ccache=yes ;;
    -*) usage "unknown option $1" ;;
    *) names+=("$1") ;;
  esac
  shift
done
[ ${#names[@]} -gt 0 ] || usage "name at least one distribution"
for name in "${names[@]}"; do
  case $name in
    bookworm | trixie | noble | bookworm+clang | trixie+clang | noble+clang) ;;
    *) usage "unknown distribution '$name'" ;;
  esac
done
case $only in '' | quickstart | tests) ;; *) usage "--only takes quickstart or tests" ;; esac
[ "$(id -u)" -eq 0 ] || fail "roots are made and entered as root"
for program in debootstrap git unshare; do
  command -v "$program" >/dev/null || fail "'$program' is missing: install it"
done
mkdir -p "$roots/logs"
roots=$(cd "$roots" && pwd)

# shellcheck disable=SC2016  # expanded by apt, and by the shell inside
# The archive that this machine's apt gets packages of Debian or Ubuntu from.
archive_of() { # ORIGIN
  apt-get indextargets --format '$(REPO_URI)' "Origin: $1" 'Identifier: Packages' 2>/dev/null | grep -v security | head -n 1 || true
}

make_root() { # SUITE: makes $roots/SUITE where it is not there yet
  local suite=$1 root=$roots/$1 family=debian url options=() script=()
  [ -e "$root/.finished" ] && return
  [ ! -e "$root" ] || fail "$root was left unfinished: remove it and start again"
  if [ "$suite" = noble ]; then
    family=ubuntu
    url=${ubuntu:-$(archive_of Ubuntu)}
    [ -n "$url" ] || fail "this machine's apt knows no archive of Ubuntu: give --ubuntu URL"
    options=("--components=main,universe")
    [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=(gutsy) # what every release of Ubuntu is made by
  else
    url=${debian:-$(archive_of Debian)}
    [ -n "$url" ] || fail "this machine's apt knows no archive of Debian: give --debian URL"
  fi
  # debootstrap finds the keys of this machine's own distribution by itself.
  [ -z "$keyring" ] || [ "$family" = "$(. /etc/os-release && echo "$ID")" ] || options+=("--keyring=$keyring")
  debootstrap --variant=minbase "${options[@]}" "$suite" "$root" "$url" "${script[@]}"
  # As apt is set up here, so there (a proxy, say).
  apt-config dump | grep -E '^Acquire::https?::' >"$root/etc/apt/apt.conf.d/90host" || true
  touch "$root/.finished"
}

# Runs a command line in a root. The mounts belong to a name space of their own, which ends with its last process: from outside nothing is
# ever mounted in a root, so that removing one removes nothing else. The processes of the root end with it, too.
inside() { # SUITE COMMAND
  unshare --mount --propagation private --pid --fork --kill-child bash -euc '
    root=$1
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    exec chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
      bash -euc "$2"' _ "$roots/$1" "$2"
}

version_of() { # SUITE PACKAGE
  inside "$1" "dpkg-query -W -f='\${Version}' $2" 2>/dev/null | sed -E 's/^[0-9]+://; s/[+-].*//'
}

# Runs a step, its output to the log, and sets `outcome` and `seconds`.
step() { # NAME STEP COMMAND
  local begin=$SECONDS
  outcome='left out' seconds=0
  [ -z "$only" ] || [ "$only" = "$2" ] || [[ ! $2 =~ ^(quickstart|tests)$ ]] || return 0
  outcome=failed
  echo "$1: $2" >&2
  if inside "${1%+*}" "$3" </dev/null >"$roots/logs/$1.$2.log" 2>&1; then outcome=passed; fi
  if [ -n "$ccache" ] && grep -q '\[-W[a-z]' "$roots/logs/$1.$2.log"; then outcome=failed; fi
  seconds=$((SECONDS - begin))
  [ "$outcome" = passed ] || { failed=1 && tail -n 5 "$roots/logs/$1.$2.log" >&2; }
}

# CMake takes ccache where it is installed. Warnings are kept and shown again, so that leaving -Werror out of what tells objects apart hides none.
# shellcheck disable=SC2016
install_ccache='apt-get update -q; apt-get install -y -q --no-install-recommends ccache; mkdir -p ~/.config/ccache
  printf "%s\n" "sloppiness = pch_defines,time_macros,include_file_mtime,include_file_ctime" "ignore_options = -Werror" "hash_dir = false" \
    >~/.config/ccache/ccache.conf'

failed=0 table=()
for name in "${names[@]}"; do
  suite=${name%+*} version='g++ -dumpfullversion' settings=''
  make_root "$suite" >"$roots/logs/$suite.root.log" 2>&1 || fail "no root of $suite: $(tail -n 1 "$roots/logs/$suite.root.log")"
  [ -z "$ccache" ] || step "$name" ccache "$install_ccache"
  if [ "$name" != "$suite" ]; then
    version='clang++ -dumpversion' settings='export CC=clang CXX=clang++;'
    step "$name" packages 'apt-get update -q; apt-get install -y -q --no-install-recommends clang libomp-dev'
  fi
  place=/root/hone-$name
  rm -rf --one-file-system "${roots:?}/$suite$place"
  git clone -q --no-hardlinks "$repository" "$roots/$suite$place"
  step "$name" quickstart "$settings cd $place; bash tools/quickstart.sh"
  quickstart="$outcome, $seconds s"
  step "$name" tests "$settings cd $place; bash tests/run.sh --without-sanitizers"
  tests="$outcome, $seconds s"
  summary=$(grep -oE '[0-9]+% tests passed.*' "$roots/logs/$name.tests.log" | tail -n 1 || true)
  table+=("$(printf '%-15s %-9s %-8s %-8s %-8s %-6s %-16s %s%s' "$name" "$(inside "$suite" "$version")" \
    "$(version_of "$suite" libdnnl-dev)" "$(version_of "$suite" libhdf5-dev)" "$(version_of "$suite" libfmt-dev)" \
    "$(version_of "$suite" libcli11-dev)" "$quickstart" "$tests" "${summary:+ ($summary)}")")
done
printf '%-15s %-9s %-8s %-8s %-8s %-6s %-16s %s\n' distribution compiler oneDNN HDF5 fmt CLI11 quickstart tests
printf '%s\n' "${table[@]}"
exit "$failed"
