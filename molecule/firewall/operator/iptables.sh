#!/bin/sh
# iptables, VARIANT nft or legacy, with the distribution's iptables-persistent.
set -eu
for tool in iptables ip6tables; do
    update-alternatives --quiet --set $tool "/usr/sbin/$tool-$1"
done
export DEBIAN_FRONTEND=noninteractive
for family in 4 6; do
    echo "iptables-persistent iptables-persistent/autosave_v$family boolean false"
done | debconf-set-selections
apt-get install -qq iptables-persistent >/dev/null
if [ "$1" = nft ]; then
    # Installed, and not in use.
    apt-get install -qq nftables >/dev/null
fi
rules() {
    cat <<RULES
# By hand.
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 8443 -j REDIRECT --to-ports 8080
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:SERVICES - [0:0]

-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p $1 -j ACCEPT
-A INPUT -m comment --comment "what is \"ours\"" -j SERVICES
-A SERVICES -p tcp -m multiport --dports 22,8080,8082 -j ACCEPT
-A SERVICES -p udp -m udp --dport 8090 -j ACCEPT
COMMIT
RULES
}
rules icmp >/etc/iptables/rules.v4
rules ipv6-icmp >/etc/iptables/rules.v6
systemctl restart netfilter-persistent
systemctl enable --quiet netfilter-persistent
