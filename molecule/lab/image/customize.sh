#!/bin/sh
# mmdebstrap's customize hook: ROOT MODULES. Runs on the controller once the
# packages are installed, while the build's real package sources still work.
set -eu
root=$1 modules=$2
here=$(dirname "$0")

# The offline repository: all that a play may install, with its dependencies.
# A list of its own for what conflicts with another list.
chroot "$root" apt-get clean
for list in "$here"/packages-offline*.txt; do
    grep -v '^#' "$list" |
        xargs chroot "$root" apt-get install -qq --download-only --no-install-recommends
done
# The libraries of what nearly every host installs are there already: unpacking them takes a lab host
# longer than all the rest. The programs themselves are left to the plays, as on anybody's host.
programs="corosync libreswan libnss3-tools pacemaker pacemaker-cli-utils resource-agents"
# shellcheck disable=SC2086
libraries=$(chroot "$root" apt-get install -s --no-install-recommends $programs |
    awk -v programs=" $programs " '$1 == "Inst" && $2 ~ /^(lib|perl)/ && !index(programs, " " $2 " ") { print $2 }')
mkdir -p "$root/srv/packages"
mv "$root"/var/cache/apt/archives/*.deb "$root/srv/packages/"
(cd "$root/srv/packages" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null)

cp -rT --no-preserve=ownership "$here/overlay" "$root"

# From here on the offline repository is the only one. Its lists are in the image:
# without them, Ansible's cache_valid_time takes the new, empty folder for fresh.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
chroot "$root" apt-get update -qq
# shellcheck disable=SC2086
chroot "$root" apt-get install -qq --no-install-recommends --mark-auto $libraries >/dev/null

# What makes a boot slow or noisy and serves no purpose on a lab host.
for unit in \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    getty@tty1.service getty-static.service serial-getty@ttyS0.service console-getty.service \
    kmod-static-nodes.service ldconfig.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    systemd-firstboot.service systemd-journal-flush.service \
    systemd-journal-catalog-update.service \
    systemd-machine-id-commit.service systemd-pstore.service \
    systemd-sysusers.service systemd-udev-trigger.service \
    systemd-update-done.service systemd-hibernate-clear.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# Each `systemctl daemon-reload` runs all of these, and they have nothing to generate here.
mkdir -p "$root/etc/systemd/system-generators"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$root/etc/systemd/system-generators/${generator##*/}"
done
chroot "$root" systemctl enable lab-identity.service lab-ready.service
chroot "$root" systemctl set-default multi-user.target

mkdir -p "$root/usr/lib/modules"
cp -r "$modules/." "$root/usr/lib/modules/"
for version in "$modules"/*; do
    depmod -b "$root" "${version##*/}"
done
# The kernel has both variants; a test that is about the other one switches to it.
for tool in iptables ip6tables; do
    chroot "$root" update-alternatives --set $tool /usr/sbin/$tool-legacy
done
