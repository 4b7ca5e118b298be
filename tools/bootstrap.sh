#!/usr/bin/env bash
# Make ready what every target of the Makefile needs: Debian packages, .venv, and
# the path by which Ansible and Python import this collection. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

install_packages() {
    local name missing=()
    while read -r name; do
        [[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" == installed ]] || missing+=("$name")
    done < <(grep -v '^#' tests/packages.txt)
    ((${#missing[@]})) || return 0
    echo "bootstrap: installing Debian packages: ${missing[*]}"
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0)
    if ((EUID != 0)); then apt=(sudo "${apt[@]}"); fi
    "${apt[@]}" update
    "${apt[@]}" install --no-install-recommends "${missing[@]}"
}

if command -v dpkg-query >/dev/null; then
    install_packages
else
    echo "bootstrap: this is no Debian; install what tests/packages.txt names by other means"
fi

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "bootstrap: python3 is $(python3 -V); the control node needs Python 3.11 or newer" >&2
    exit 1
fi

echo "bootstrap: installing the pinned Python requirements into .venv"
[[ -x .venv/bin/pip ]] || python3 -m venv --clear .venv
.venv/bin/pip --disable-pip-version-check install --quiet -r requirements.txt -r requirements-dev.txt

mkdir -p .cache/collections/ansible_collections/underlay
ln -sfn ../../../.. .cache/collections/ansible_collections/underlay/ipsec
touch .venv/.ready
