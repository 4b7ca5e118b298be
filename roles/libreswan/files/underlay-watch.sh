#!/bin/sh
# Managed by underlay.ipsec; changes made here are overwritten.
#
# Puts back what pluto 4.x takes away. If both ends of a pair start to negotiate at the same
# moment, pluto finishes one negotiation, then cleans up after the other one and takes the
# kernel's outbound policy of the finished one with it: the peer sends to us encrypted, and
# nothing leaves for that peer until the SA is renewed, hours later.
#
# The policy that is put back is the mirror image of the inbound one, if there is an SA for it,
# and if it was missing five seconds ago too: an SA that is just being made is left alone.
set -u

# Print "LOCAL PEER PRIORITY TMPL-SRC TMPL-DST REQID MODE" for each inbound policy without its outbound one.
missing() {
    ip xfrm policy | awk '
        $1 == "src" { src = $2; dst = $4; dir = "" }
        $1 == "dir" { dir = $2; block = /action block/; for (i = 3; i < NF; i++) if ($i == "priority") priority = $(i + 1) }
        $1 == "tmpl" { tsrc = $3; tdst = $5 }
        $1 == "proto" && $2 == "esp" && !block {
            if (dir == "out") out[src, dst] = 1
            if (dir == "in") found[dst " " src] = priority " " tdst " " tsrc " " $4 " " $6
        }
        END { for (pair in found) { split(pair, end, " "); if (!((end[1], end[2]) in out)) print pair, found[pair] } }
    ' | sort
}

before=
while sleep 5; do
    now=$(missing)
    echo "$now" | while read -r local peer priority tsrc tdst reqid mode; do
        [ -n "$local" ] || continue
        printf '%s\n' "$before" | grep -qxF "$local $peer $priority $tsrc $tdst $reqid $mode" || continue
        [ -n "$(ip xfrm state list src "${local%/*}" dst "${peer%/*}" proto esp reqid "$reqid")" ] || continue
        echo "putting back the outbound policy for $peer"
        ip xfrm policy update src "$local" dst "$peer" dir out priority "$priority" \
            tmpl src "$tsrc" dst "$tdst" proto esp reqid "$reqid" mode "$mode"
    done
    before=$now
done
