#!/bin/sh
# Managed by underlay.ipsec; changes made here are overwritten.
#
# Lets the tunnels of virtual addresses follow them. Whoever moves an address calls this: the resource
# agent ipsec-vip for pacemaker, or the scripts of anything else.
#
#   underlay-vip.sh hold NAME      the address has come: load what lets others in, and begin with all members
#   underlay-vip.sh release NAME   the address has gone: unload that, and be one of its peers again
#   underlay-vip.sh state NAME     0: this host serves the address; 7: it does not; 1: it should, and something is wrong
#   underlay-vip.sh begin NAME     begin with all members again
#   underlay-vip.sh restore        pluto has started: bring back what it had
#   underlay-vip.sh tidy IMPAIR    as long as pluto runs: end the SAs with those who had an address before, and
#                                  forget what left without a word
#   underlay-vip.sh forget NAME    release it, unless it is here
#
# For each address there are, in /etc/ipsec.d/underlay-vip, NAME.node.conf with the connection of a host
# that does not have it, and on those that may have it NAME.holder.conf.
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin

folder=/etc/ipsec.d/underlay-vip
held=/run/underlay-ipsec-vip
# How long pluto may take to answer, and to come up, and somebody else to finish, in seconds.
answer=5 start=10 turn=15
# Every process counts: the address cannot be reached meanwhile. The script in front of whack takes longer than
# whack itself, which lies in one of two places.
directory=/usr/libexec/ipsec
[ -x "$directory/whack" ] || directory=/usr/lib/ipsec

say() {
    echo "$*" >&2
    logger -t underlay-vip -- "$*"
}

whack() {
    timeout "$answer" "$directory/whack" "$@" 2>&1 </dev/null
}

# Ask the same of several connections: VERB CONNECTION...
each() {
    # shellcheck disable=SC2016
    [ $# -eq 1 ] || timeout "$start" sh -c '
        whack=$0 verb=$1
        shift
        for connection; do "$whack" --name "$connection" --asynchronous "--$verb" </dev/null; done
    ' "$directory/whack" "$@" >/dev/null 2>&1
}

# Look what pluto has, and which addresses the host; fail if pluto does not answer.
look() {
    here=$(ip -o address)
    status=$(whack --status)
}

# Return whether pluto had a connection when it was looked at.
has() {
    case $status in
        *"\"$1\": "*) return 0 ;;
    esac
    return 1
}

# Return whether it had an SA; what follows the word depends on the family.
encrypts() {
    case $status in
        *"\"$1\" esp"[.:]*) return 0 ;;
    esac
    return 1
}

# Return whether the host had the address of NAME.
is_here() {
    address_of "$1"
    case $here in
        *" $address/"*) return 0 ;;
    esac
    return 1
}

# Wait for a pluto that is on its way, or is being restarted.
await() {
    ! look || return 0
    deadline=$(($(date +%s) + start))
    until look; do
        [ "$(systemctl is-active ipsec)" != failed ] || { say "libreswan has failed"; return 1; }
        [ "$(date +%s)" -lt "$deadline" ] || { say "pluto does not answer"; return 1; }
        sleep 0.2
    done
}

# One at a time: each looks at what the others change.
exclusively() {
    [ -d "$held" ] || mkdir -p "$held"
    # An exec whose redirection fails ends the script, with all that it is about to take away.
    # shellcheck disable=SC2015
    true >>"$held/.lock" && exec 9>>"$held/.lock" && flock -w "$turn" 9 ||
        say "going on, though somebody else may be at it, too"
}

# Set `names` to those of all virtual addresses.
all_names() {
    names=
    for file in "$folder"/*.node.conf; do
        file=${file##*/}
        [ "$file" = '*.node.conf' ] || names="$names ${file%.node.conf}"
    done
}

# Set `connections` to the names of those in a file, `traps` and `starts` to those that ask for an SA.
connections_of() {
    connections='' traps='' starts='' last=''
    while read -r word connection; do
        case $word in
            conn) last=$connection connections="$connections $connection" ;;
            auto=ondemand) traps="$traps $last" ;;
            auto=start) starts="$starts $last" ;;
        esac
    done <"$1"
}

# Set `address` to that of NAME.
address_of() {
    while read -r address; do
        case $address in
            right=*) address=${address#right=}; return ;;
        esac
    done <"$folder/$1.node.conf"
}

# Return whether it is bad for pluto to be told to listen: up to libreswan 5.1 that frees the private keys which a
# thread may be signing with just then, and pluto dies of it.
fragile() {
    case $status in
        *pluto_version=[34].* | *pluto_version=5.[01]*) return 0 ;;
    esac
    return 1
}

# Then wait until no thread has anything to do, half a second at most.
quiet() {
    ! fragile || for _turn in 1 2 3 4 5 6; do
        case $status in
            *"CRYPTO_TIMEOUT in "*) ;;
            *) return ;;
        esac
        sleep 0.05
        look
    done
}

# Return whether pluto listened at all: it does not yet when it has just started.
listens() {
    case $status in
        *" UDP "* | *":UDP/"*) return 0 ;;
    esac
    return 1
}

# Return whether pluto knew that the address of NAME is here.
is_known() {
    address_of "$1"
    case $status in
        *" UDP $address:"* | *" UDP [$address]:"*) return 0 ;;
        # Since 5.1.
        *" $address:UDP/"* | *" [$address]:UDP/"*) return 0 ;;
    esac
    return 1
}

addconn() {
    timeout "$start" "$directory/addconn" --config "$@" 2>&1 9>&- </dev/null | logger -t underlay-vip
}

# Load what is in a file, and have pluto look which addresses the host has.
load_and_listen() {
    addconn "$1" --autoall
}

# Load what is in a file, without the latter where that is bad. Who does not listen signs nothing, and takes no request.
load() {
    if ! fragile || ! listens; then
        load_and_listen "$1"
        return
    fi
    connections_of "$1"
    # shellcheck disable=SC2086
    addconn "$1" $connections
    # shellcheck disable=SC2086
    each route $traps
    # shellcheck disable=SC2086
    each initiate $starts
}

# Set `loaded` to those connections in a file that pluto had.
loaded_of() {
    connections_of "$1"
    loaded=
    for connection in $connections; do
        ! has "$connection" || loaded="$loaded $connection"
    done
}

unload() {
    loaded_of "$1"
    # shellcheck disable=SC2086
    each delete $loaded
}

# Before pluto finds out which addresses the host has: pluto 4.x aborts if it meets that of a peer with whom it is
# about to negotiate. Such a connection goes before, and is to be loaded again unless the address is here.
park() {
    parked='' nodes=''
    all_names
    for other in $names; do
        connections_of "$folder/$other.node.conf"
        for node in $connections; do
            if has "$node" && { ! encrypts "$node" || is_here "$other"; }; then
                nodes="$nodes $node" parked="$parked $other"
            fi
        done
    done
    # shellcheck disable=SC2086
    each delete $nodes
}

unpark() {
    for other in $parked; do
        is_here "$other" || load "$folder/$other.node.conf"
    done
}

# Begin with all members that have not begun themselves: to begin twice is to have two SAs.
begin() {
    connections_of "$folder/$1.holder.conf"
    waiting=
    for connection in $connections; do
        case $connection in
            *+holder+*) encrypts "$connection" || waiting="$waiting $connection" ;;
        esac
    done
    # shellcheck disable=SC2086
    each initiate $waiting
}

hold() {
    exclusively
    await || return 1
    is_here "$1" || { say "$address is not on this host"; return 1; }
    # What is left of before may have lost its SAs without knowing: see release.
    if [ ! -e "$held/$1" ]; then
        unload "$folder/$1.holder.conf"
        [ -z "$loaded" ] || look
    fi
    parked=
    if ! serves "$1"; then
        if is_known "$1"; then
            park
            load "$folder/$1.holder.conf"
        else
            quiet
            park
            load_and_listen "$folder/$1.holder.conf"
        fi
        begin "$1"
        look
        serves "$1" || { say "$absent"; unload "$folder/$1.holder.conf"; unpark; return 1; }
    fi
    : >"$held/$1"
    unpark
}

# Be one of the peers again of what has gone, of all addresses that left together at once.
rejoin() {
    sleep 0.5
    exclusively
    look || return
    # Where pluto was too slow for all of it.
    [ -e "$held/$1" ] || {
        unload "$folder/$1.holder.conf"
        [ -z "$loaded" ] || look
    }
    all_names
    missing=
    for other in $names; do
        ! is_missing "$other" || missing=yes
    done
    [ -n "$missing" ] || return
    quiet
    park
    whack --listen >/dev/null
    look
    for other in $names; do
        ! is_missing "$other" || load "$folder/$other.node.conf"
    done
}

# Return whether pluto had neither what the holder of NAME needs nor what its peers do.
is_missing() {
    ! is_here "$1" || return 1
    for file in "$folder/$1".*.conf; do
        connections_of "$file"
        for connection in $connections; do
            ! has "$connection" || return 1
        done
    done
}

release() {
    exclusively
    give_up "$1"
}

# The same of an address that left without a word.
forget() {
    exclusively
    if look && ! is_here "$1"; then give_up "$1"; fi
}

give_up() {
    rm -f "$held/$1"
    alive=
    if look; then
        unload "$folder/$1.holder.conf"
        # As timeout says it.
        [ $? -eq 124 ] || alive=yes
        # The next host waits until this one is done. A function that is called with redirections keeps what they
        # replace, and whoever reads that would wait for it.
        (
            exec >/dev/null 2>&1 </dev/null 9>&-
            rejoin "$1"
        ) &
    fi
    if [ -z "$alive" ]; then
        # A pluto that comes back has nothing of it, and of one that wakes up, tidy sees that it has.
        address_of "$1"
        ip xfrm state deleteall src "$address"
        ip xfrm state deleteall dst "$address"
        ip xfrm policy deleteall src "$address" dir out
        ip xfrm policy deleteall dst "$address" dir in
    fi
    return 0
}

# Return whether pluto had all that the holder needs.
whole() {
    connections_of "$folder/$1.holder.conf"
    for connection in $connections; do
        has "$connection" || { absent="$connection is not loaded"; return 1; }
    done
}

# Return whether the address is served: a connection is of no use while pluto does not know of the address.
serves() {
    whole "$1" || return 1
    is_known "$1" || { absent="pluto does not know that $address is here"; return 1; }
}

state() {
    if ! look; then
        [ -e "$held/$1" ] || return 7
        say "pluto does not answer"
        return 1
    fi
    if ! whole "$1"; then
        loaded_of "$folder/$1.holder.conf"
        [ -e "$held/$1" ] || [ -n "$loaded" ] || return 7
        # Unless somebody is just changing them.
        exclusively
        look
        if ! whole "$1"; then
            loaded_of "$folder/$1.holder.conf"
            [ -e "$held/$1" ] || [ -n "$loaded" ] || return 7
            say "$absent"
            return 1
        fi
    fi
    # The address is taken away before this is told to release it: that may only be seen once.
    if is_here "$1"; then
        serves "$1" || { say "$absent"; return 1; }
        [ ! -s "$held/$1" ] || : >"$held/$1"
    elif [ -e "$held/$1" ] && [ ! -s "$held/$1" ]; then
        echo gone >"$held/$1"
    else
        say "serving $address, which is not on this host"
        return 1
    fi
}

restore() {
    exclusively
    await || return 1
    all_names
    for name in $names; do
        if ! is_here "$name"; then
            load "$folder/$name.node.conf"
            # By then it listens.
            look
        elif [ -e "$held/$name" ]; then
            hold "$name"
        fi
    done
}

# Print the numbers of the IKE SAs that a newer one has taken the place of.
superseded() {
    whack --showstates | sed -n '/newest/d; s/^[0-9 ]*#\([0-9]*\): "underlay-vip+.*ESTABLISHED_IKE_SA.*/\1/p'
}

# Print the names of addresses that are not here, and of which this host is not simply one of the peers: nobody has said
# that they left, or pluto was too slow when somebody did.
forgotten() {
    look || return
    all_names
    for name in $names; do
        if [ -e "$folder/$name.holder.conf" ] && ! is_here "$name"; then
            loaded_of "$folder/$name.holder.conf"
            connections_of "$folder/$name.node.conf"
            if [ -e "$held/$name" ] || [ -n "$loaded" ] || ! has "${connections# }"; then echo "$name"; fi
        fi
    done
}

# Print the words that are in both of two lists.
both() {
    for word in $1; do
        case " $2 " in
            *" $word "*) echo "$word" ;;
        esac
    done
}

# Whoever had an address says goodbye to nobody, and the SAs of before would be kept for hours. Pluto is asked to
# look whether they are due: it ends what is superseded, and leaves alone what is not. One that is just being
# renewed is superseded for a moment, so only what is seen twice is. Whoever moves an address has more time.
tidy() {
    old='' left='' round=0
    while sleep 5; do
        now=$(superseded | tr '\n' ' ')
        for number in $(both "$now" "$old"); do
            whack --asynchronous --impair "$1:$number" >/dev/null
        done
        old=$now
        round=$(((round + 1) % 3))
        [ "$round" -eq 0 ] || continue
        now=$(forgotten | tr '\n' ' ')
        for gone in $(both "$now" "$left"); do
            sh "$0" forget "$gone"
        done
        left=$now
    done
}

action=${1:-} name=${2:-}
case $action in
    tidy) tidy "$name" ;;
    restore) restore ;;
    hold | release | forget | state | begin)
        [ -e "$folder/$name.holder.conf" ] || { say "there is no virtual address called '$name' here"; exit 5; }
        [ "$action" != begin ] || look
        "$action" "$name"
        ;;
    *)
        sed -n '7,15s/^# *//p' "$0" >&2
        exit 2
        ;;
esac
