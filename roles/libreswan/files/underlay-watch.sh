#!/bin/sh
# Managed by underlay.ipsec; changes made here are overwritten.
#
# Mends what pluto 4.x would leave broken until an SA is renewed, hours later. It acts on what it
# has seen twice: an SA that is just being made, or ended, is left alone.
#
# One-way: if both ends of a pair start to negotiate at the same moment, pluto finishes one
# negotiation, then cleans up after the other one and takes the kernel's outbound policy of the
# finished one with it. It does so, too, half a minute after a peer that had failed is back, when
# its own note of the failure ends. The peer sends to us encrypted, and nothing leaves for that peer.
# The policy is put back as the mirror image of the inbound one, if there is an SA for it. Looked
# for a second after the kernel's policies changed, and every five seconds.
#
# Stuck: an IKE SA outlives all use. Its peer may have crashed and come back, in which case pluto
# watches over the new SA only, and keeps the old one when the new one ends; or its Child SA
# failed. As long as there is one, pluto ignores all packets that ask for an SA with that peer.
# All SAs with the peer are ended, and the next packet makes new ones. Looked for every five seconds.
set -u

# Print "LOCAL PEER PRIORITY TMPL-SRC TMPL-DST REQID MODE" for each inbound policy without its outbound one.
one_way() {
    ip xfrm policy | awk '
        $1 == "src" { src = $2; dst = $4; dir = "" }
        $1 == "dir" { dir = $2; block = /action block/; for (i = 3; i < NF; i++) if ($i == "priority") priority = $(i + 1) }
        $1 == "tmpl" { tsrc = $3; tdst = $5 }
        $1 == "proto" && $2 == "esp" && !block {
            if (dir == "out") out[src, dst] = 1
            if (dir == "in") found[dst " " src] = priority " " tdst " " tsrc " " $4 " " $6
        }
        END { for (pair in found) { split(pair, end, " "); if (!((end[1], end[2]) in out)) print pair, found[pair] } }
    '
}

# Print the address of each peer that pluto has an IKE SA with, but the kernel no outbound policy for.
stuck() {
    { ip xfrm policy; ipsec whack --showstates; } | awk '
        $1 == "src" { sub("/(32|128)$", "", $4); dst = $4; dir = "" }
        $1 == "dir" { dir = $2 }
        $1 == "proto" && $2 == "esp" && dir == "out" { out[dst] = 1 }
        $3 ~ /^"underlay-.*"\[/ && $5 == "STATE_V2_ESTABLISHED_IKE_SA" {
            sub(/^\.\.\./, "", $4); sub(/:[0-9]+(\(.*)?$/, "", $4); peers[$4] = 1
        }
        END { for (peer in peers) if (!(peer in out)) print peer }
    '
}

# Print the name by which pluto knows the peer with an address.
id_of() {
    ipsec whack --status | sed -n "s/^[0-9]* *\"underlay-[^\"]*\"\[[0-9]*\]: .*\.\.\.$1\[\([^%].*\)\]; [^;]*;.*/\1/p" | head -n 1
}

# Print the numbers of the IKE SAs with the peer at an address, if one of them is younger than a Child SA
# of its own. Pluto crashes if such SAs are ended by the peer's id.
renewed() {
    ipsec whack --showstates | awk -v peer="...$1:" '
        index($4, peer) != 1 { next }
        $5 ~ /_IKE_SA$/ { ike = ike " " substr($2, 2, length($2) - 2) }
        $5 ~ /_CHILD_SA$/ && match($0, /IKE SA #[0-9]+;/) {
            if (substr($2, 2) + 0 < substr($0, RSTART + 8, RLENGTH - 9) + 0) found = 1
        }
        END { if (found) print ike }
    '
}

# Print the lines that two texts share. Mostly one of them is empty, and then it starts no program.
both() {
    [ -z "$1" ] || [ -z "$2" ] || printf '%s\n' "$2" | grep -xF -e "$1"
}

mend_one_way() {
    now=$(one_way)
    both "$last_one_way" "$now" | while read -r local peer priority tsrc tdst reqid mode; do
        [ -n "$(ip xfrm state list src "${local%/*}" dst "${peer%/*}" proto esp reqid "$reqid")" ] || continue
        echo "putting back the outbound policy for $peer"
        ip xfrm policy update src "$local" dst "$peer" dir out priority "$priority" \
            tmpl src "$tsrc" dst "$tdst" proto esp reqid "$reqid" mode "$mode"
    done
    last_one_way=$now
}

mend_stuck() {
    now=$(stuck)
    both "$last_stuck" "$now" | while read -r peer; do
        id=$(id_of "$peer")
        [ -n "$id" ] || continue
        echo "ending what is left of the SAs with $peer, $id"
        numbers=$(renewed "$peer")
        for number in $numbers; do
            ipsec whack --asynchronous --deletestate "$number"
        done
        # Where possible not --deletestate: with a dead peer it ends in another IKE SA that has no child.
        [ -n "$numbers" ] || ipsec whack --deleteid --name "$id"
    done
    last_stuck=$now
}

# Made when the kernel's policies change, so that there is nothing to do while they do not.
changed=${RUNTIME_DIRECTORY:?}/changed
ip xfrm monitor policy | while read -r _; do : >"$changed"; done &

last_one_way='' last_stuck='' seconds=0
while sleep 1; do
    seconds=$((seconds + 1))
    regular=$((seconds % 5 == 0))
    if [ "$regular" = 1 ] || [ -e "$changed" ] || [ -n "$last_one_way" ]; then
        rm -f "$changed"
        mend_one_way
    fi
    [ "$regular" = 0 ] || mend_stuck
done
