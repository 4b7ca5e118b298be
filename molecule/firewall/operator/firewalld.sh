#!/bin/sh
# firewalld: the members' network in a zone of its own, with a rich rule and what refuses.
set -eu
DEBIAN_FRONTEND=noninteractive apt-get install -qq firewalld nftables >/dev/null
systemctl enable --quiet --now firewalld
offline="firewall-cmd --quiet --permanent --zone=internal"
$offline --add-interface=eth1
for port in 8080/tcp 8082/tcp 8090/udp; do
    $offline --add-port=$port
done
$offline --add-rich-rule='rule family="ipv4" source address="10.88.0.99" drop'
firewall-cmd --quiet --reload
