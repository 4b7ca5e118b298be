#!/usr/bin/env bash
# Run a playbook of the collection against a lab of its own that stays up afterwards.
# Usage: tools/site.sh site|verify|down
set -euo pipefail
cd "$(dirname "$0")/.."

lab=molecule/lab/lab
name=site
state="$PWD/.cache/site"

# What site.yml needs to be told for this lab only. The passphrase is as good as any:
# it protects the key of a certification authority that `down` removes.
write_variables() {
    [[ ! -e $state/vars.yml ]] || return 0
    (
        umask 077
        mkdir -p "$state"
        cat >"$state/vars.yml.new" <<YAML
---
ipsec_ca_dir: $state/ca
ipsec_ca_passphrase: $(python3 -c 'import secrets; print(secrets.token_hex(24))')
ipsec_report_dir: $state/report
YAML
    )
    mv "$state/vars.yml.new" "$state/vars.yml"
}

inventory() {
    "$lab" status --name "$name" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["inventories"]["mgmt"])'
}

play() {
    local hosts
    hosts=$(inventory)
    # Nothing skipped is shown, so that the matrix is the last thing that is.
    ANSIBLE_DISPLAY_SKIPPED_HOSTS=false ANSIBLE_CALLBACK_RESULT_FORMAT=yaml \
        ansible-playbook -i "$hosts" -e "@$state/vars.yml" "playbooks/$1.yml"
}

case "${1:-}" in
    site)
        "$lab" up --name "$name"
        write_variables
        play site
        ;;
    verify)
        play verify
        ;;
    down)
        "$lab" down --name "$name"
        rm -rf "$state"
        ;;
    *)
        echo "usage: tools/site.sh site|verify|down" >&2
        exit 2
        ;;
esac
