#!/bin/sh
# Turns the namespaces that `unshare` made into a machine: the root directory
# ROOT with all writes going to memory, and systemd as its PID 1.
#
#   boot.sh ROOT SCRATCH      SCRATCH: an empty directory to mount things on
#
# The first line of output is the process id of that PID 1 as the outside sees
# it. ROOT itself is not written to.
set -eu
root=$1 scratch=$2

# /proc is still the outside's, and this shell becomes systemd.
read -r pid _ </proc/self/stat
echo "$pid"

mount -t tmpfs -o size=2g,mode=755 tmpfs "$scratch"
mkdir "$scratch/changes" "$scratch/work" "$scratch/machine"
mount -t overlay overlay \
    -o "lowerdir=$root,upperdir=$scratch/changes,workdir=$scratch/work" "$scratch/machine"
cd "$scratch/machine"
mkdir -p proc sys dev run tmp mnt

mount -t proc proc proc
# Otherwise systemd-sysctl would write the settings of the real kernel.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
    touch "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm

# There is no hardware to bring up, and no network to wait for.
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-udev-trigger.service systemd-modules-load.service systemd-remount-fs.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
    systemd-networkd-wait-online.service NetworkManager-wait-online.service \
    ifupdown-wait-online.service; do
    rm -f "etc/systemd/system/$unit"
    ln -s /dev/null "etc/systemd/system/$unit"
done
: >etc/fstab
# Container images forbid packages to start services. This is a machine.
rm -f usr/sbin/policy-rc.d

pivot_root . mnt
umount -l /mnt
# As systemd itself does on hardware: what it mounts for a service, its credentials
# for example, appears where the service looks.
mount --make-rshared /
exec env -i container=forebay-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --show-status=false
