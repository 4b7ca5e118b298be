#!/bin/sh
# Make an address resource in the cluster for each address given, as TripleO names them.
set -eu
crm_attribute --type crm_config --name stonith-enabled --update false
# Moving one address does not move another.
crm_attribute --type rsc_defaults --name resource-stickiness --update 100
# As on a host with several processors that has nothing else to do: with one, which has just run a play, pacemaker
# starts one thing at a time in the whole cluster.
crm_attribute --type crm_config --name load-threshold --update 0%
crm_attribute --type crm_config --name node-action-limit --update 8
for address; do
    id=ip-$(echo "$address" | tr : .)
    case $address in
        *:*) width=128 ;;
        *) width=32 ;;
    esac
    cibadmin --query --xpath "//primitive[@id='$id']" >/dev/null 2>&1 && continue
    cibadmin --create --scope resources --xml-text "
        <primitive id='$id' class='ocf' provider='heartbeat' type='IPaddr2'>
          <instance_attributes id='$id-instance_attributes'>
            <nvpair id='$id-ip' name='ip' value='$address'/>
            <nvpair id='$id-mask' name='cidr_netmask' value='$width'/>
          </instance_attributes>
          <operations>
            <op id='$id-monitor' name='monitor' interval='10s' timeout='20s'/>
          </operations>
        </primitive>"
done
