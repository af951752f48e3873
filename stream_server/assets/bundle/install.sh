#!/bin/sh
# Installs stream-server from the folder that this file lies in, on a machine without network.
# Checks first that every file is the one that was packed; changes nothing before that.
set -eu
umask 022
LC_ALL=C
export LC_ALL
# Modules of somebody else's would come before those that are installed here.
unset PYTHONPATH PYTHONHOME

usage() {
  cat <<'END'
install.sh [--prefix DIR] [--python PYTHON] [--sums HEX] [--key PUBLIC.pem]   install or upgrade
install.sh --check [--sums HEX] [--key PUBLIC.pem]                            only check the files
install.sh --rollback [--prefix DIR]                                          back to the release before
install.sh --remove [--prefix DIR]                                            remove the program, keep its state

  --prefix DIR      where [/opt/stream-server]
  --python PYTHON   the Python to use [the first on PATH that fits]
  --sums HEX        SHA-256 that SHA256SUMS must have, as `stream-server bundle` printed it
  --key PUBLIC.pem  Ed25519 key that must have signed SHA256SUMS
END
}

die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

here=$(cd -P "$(dirname "$0")" && pwd)
prefix=/opt/stream-server python='' sums='' key='' action=install
# The copy in an installed release knows where it is installed.
[ ! -f "$here/.complete" ] || { prefix=${here%/releases/*} action=installed; }
while [ $# -gt 0 ]; do
  case $1 in
    --prefix|--python|--sums|--key)
      [ $# -ge 2 ] || die "$1 needs a value; install.sh --help"
      case $1 in
        --prefix) prefix=$2 ;;
        --python) python=$2 ;;
        --sums) sums=$2 ;;
        --key) key=$2 ;;
      esac
      shift 2 ;;
    --check) action=check; shift ;;
    --rollback) action=rollback; shift ;;
    --remove) action=remove; shift ;;
    -h|--help) usage; exit 0 ;;
    *) die "unknown word $1; install.sh --help" ;;
  esac
done
case $key in ''|/*) ;; *) key=$PWD/$key ;; esac
case $python in */*) case $python in /*) ;; *) python=$PWD/$python ;; esac ;; esac
case $prefix in /*) ;; *) prefix=$PWD/$prefix ;; esac
case $prefix in *[!A-Za-z0-9/._+-]*) die "--prefix $prefix: letters, digits and /._+- only" ;; esac
prefix=${prefix%/}
[ -n "$prefix" ] || die "--prefix / is the whole machine; name a folder of its own"

# ---------------------------------------------------------------- is everything here as it was packed?

verify() {
  [ -f SHA256SUMS ] || die "missing: SHA256SUMS. Unpack the archive again."
  if [ -n "$sums" ]; then
    found=$(sha256sum SHA256SUMS); found=${found%% *}
    [ "$found" = "$sums" ] || die "changed: SHA256SUMS has SHA-256 $found and not $sums. Nothing was installed."
  fi
  verify_signature
  # What is neither a file nor a folder, and what nobody has packed.
  odd=$(find . ! -type f ! -type d)
  [ -z "$odd" ] || die "not a plain file: $(one_line "$odd"). Nothing was installed."
  wanted=$(sed 's/^[0-9a-f]\{64\}  //' SHA256SUMS | sort)
  there=$(find . -type f ! -path ./SHA256SUMS ! -path ./SHA256SUMS.sig | sed 's|^\./||' | sort)
  if [ "$wanted" != "$there" ]; then
    lists=$(mktemp -d)
    printf '%s\n' "$wanted" > "$lists/wanted"
    printf '%s\n' "$there" > "$lists/there"
    missing=$(comm -23 "$lists/wanted" "$lists/there")
    added=$(comm -13 "$lists/wanted" "$lists/there")
    rm -r "$lists"
    [ -z "$missing" ] || say "missing: $(one_line "$missing")" >&2
    [ -z "$added" ] || say "not in the archive: $(one_line "$added")" >&2
    die "the files are not those that were packed. Nothing was installed."
  fi
  changed=$(sha256sum --check --strict --quiet SHA256SUMS 2>/dev/null) || {
    changed=$(printf '%s\n' "$changed" | sed -n 's/: FAILED.*//p')
    die "changed: $(one_line "${changed:-SHA256SUMS}"). Nothing was installed."
  }
  say "checked $(wc -l < SHA256SUMS) files: all as they were packed"
}

one_line() { printf '%s' "$1" | tr '\n' ' '; }

verify_signature() {
  if [ -z "$key" ]; then
    [ ! -f SHA256SUMS.sig ] || say "The archive is signed; --key PUBLIC.pem checks by whom."
    return 0
  fi
  [ -f "$key" ] || die "--key $key: no such file"
  [ -f SHA256SUMS.sig ] || die "not signed: there is no SHA256SUMS.sig. Nothing was installed."
  command -v openssl >/dev/null || die "--key needs openssl, which is not installed. Nothing was installed."
  openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
    die "not signed with $key: SHA256SUMS or its signature is another one. Nothing was installed."
  say "signed with $key"
}

fact() { sed -n "s/^$1=//p" bundle.txt; }

# ---------------------------------------------------------------- does this machine fit?

check_machine() {
  [ "$(uname -s)" = Linux ] && [ "$(uname -m)" = "$(fact machine)" ] ||
    die "these wheels are for Linux on $(fact machine), this is $(uname -s) on $(uname -m); bundle on such a machine"
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || die "these wheels need glibc, which this system does not have"
  glibc=${glibc#glibc }
  oldest=$(printf '%s\n%s\n' "$(fact glibc)" "$glibc" | sort -V | head -n 1)
  [ "$oldest" = "$(fact glibc)" ] || die "these wheels need glibc $(fact glibc), this system has $glibc"
}

fits() {
  "$1" -I -c 'import sys, sysconfig, venv
sys.exit(sysconfig.get_config_var("SOABI") != sys.argv[1])' "$(fact abi)" 2>/dev/null
}

find_python() {
  version=$(fact python)
  if [ -n "$python" ]; then
    fits "$python" || die "$python is not CPython $version ($(fact abi)) with its module venv"
    return 0
  fi
  for candidate in "python$version" python3 "/usr/bin/python$version"; do
    if fits "$candidate"; then python=$candidate; return 0; fi
  done
  die "no CPython $version ($(fact abi)) found, for which these wheels were built. Install python$version, name it" \
    "with --python, or make the archive with the Python of this machine: $(python3 -V 2>&1 || :)"
}

# ---------------------------------------------------------------- one of these at a time

lock() {
  mkdir -p "$prefix" 2>/dev/null && [ -w "$prefix" ] || die "cannot write to $prefix; run as root, or set --prefix"
  exec 9>"$prefix/.lock"
  flock -n 9 || die "another install.sh is at work in $prefix"
}

# A rename puts the link in place, so that whoever starts the server finds the one release or the other.
point() {
  rm -f "$prefix/$1.next"
  ln -s "$2" "$prefix/$1.next"
  mv -T "$prefix/$1.next" "$prefix/$1"
}

target() { readlink "$prefix/$1" 2>/dev/null || :; }

restart_hint() {
  [ ! -d /run/systemd/system ] || say "If it runs as a service: systemctl restart stream-server"
}

# ---------------------------------------------------------------- actions

install_release() {
  cd "$here"
  verify
  check_machine
  find_python
  lock
  id=$(sha256sum SHA256SUMS | cut -c 1-8)
  release=releases/$(fact version)-$id
  place=$prefix/$release
  if [ "$(target current)" = "$release" ]; then
    say "$(fact version) ($id) is installed in $prefix already; nothing to do"
    exit 0
  fi
  # Without its mark a release is what an interrupted installation has left.
  if [ ! -f "$place/.complete" ]; then
    rm -rf "$place"
    check_disk
    trap 'rm -rf "$place"' EXIT
    trap 'exit 130' INT TERM HUP
    fill
    : > "$place/.complete"
    sync -f "$place/.complete"
    trap - EXIT INT TERM HUP
  fi
  switch_to "$release"
  sweep
  say "installed stream-server $(fact version) ($id) in $prefix"
  restart_hint
  say "Next: $prefix/current/README.txt"
}

check_disk() {
  free=$(df -Pk "$prefix" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$(fact disk_kb)" ] ||
    die "$prefix has $((free / 1024)) MB free, $(($(fact disk_kb) / 1024)) MB are needed"
}

fill() {
  say "installing into $place with $python"
  mkdir -p "$place"
  # Without pip in it, for which Debian would need a further package: the archive brings its own.
  "$python" -I -m venv --without-pip "$place/venv"
  # The machine's own settings of pip do not count: they may name indexes or other versions.
  env -i PATH="$PATH" HOME="${HOME:-/}" LC_ALL=C PIP_CONFIG_FILE=/dev/null \
    "$place/venv/bin/python" "wheels/$(fact pip)/pip" install --quiet --disable-pip-version-check --no-cache-dir \
    --root-user-action ignore --no-index --find-links wheels --no-deps --require-hashes --only-binary :all: \
    -r requirements.txt || die "pip failed; its error stands above. What was installed before is as it was."
  for part in models deploy licences; do
    [ ! -d "$part" ] || cp -R "$part" "$place/"
  done
  cp install.sh README.txt SHA256SUMS bundle.txt requirements.txt sbom.cdx.json "$place/"
  [ "$("$place/venv/bin/stream-server" --version)" = "stream-server $(fact version)" ] ||
    die "the installed stream-server does not start. What was installed before is as it was."
}

switch_to() {
  before=$(target current)
  [ -z "$before" ] || point previous "$before"
  point current "$1"
  mkdir -p "$prefix/bin"
  point bin/stream-server ../current/venv/bin/stream-server
}

sweep() {
  for path in "$prefix"/releases/*; do
    name=releases/${path##*/}
    [ "$name" = "$(target current)" ] || [ "$name" = "$(target previous)" ] || rm -rf "$path"
  done
}

rollback() {
  [ -d "$prefix/releases" ] || die "nothing is installed in $prefix"
  before=$(target previous)
  [ -n "$before" ] && [ -f "$prefix/$before/.complete" ] || die "there is no release before the one in $prefix"
  lock
  switch_to "$before"
  say "back to ${before#releases/}; --rollback again undoes it"
  restart_hint
}

remove() {
  [ -d "$prefix/releases" ] && [ -L "$prefix/current" ] || die "nothing is installed in $prefix"
  lock
  rm -f "$prefix/current" "$prefix/previous" "$prefix/bin/stream-server"
  rm -rf "$prefix/releases"
  rm -f "$prefix/.lock"
  rmdir "$prefix/bin" 2>/dev/null || :
  rmdir "$prefix" 2>/dev/null || say "left in place: what else lies in $prefix"
  say "removed. State (certificates, models) and configuration were not touched."
}

case $action in
  install) install_release ;;
  installed) die "this release is installed; --rollback or --remove, or run install.sh of another archive" ;;
  check) cd "$here" && verify ;;
  rollback) rollback ;;
  remove) remove ;;
esac
