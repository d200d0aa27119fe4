#!/bin/sh
# Makes an SD-card image for a Raspberry Pi 3, 3+, 4, 400 or Zero 2 W: Debian 12
# arm64 with a read-only root, and Forebay with its data on a partition of its own.
#
#   cross/image.sh PACKAGE.deb OUT.img
#
# As root, on Debian 12 prepared by `cross/setup.sh arm64 image`. The base system
# takes some 15 minutes of processor time, most of it under emulation; it is kept
# in CACHE and used again for the next image. Neither loop devices nor mounts of
# the image are needed.
#
#   CACHE     directory of the base system (default: target/image)
#   MIRROR    where packages come from (default: that of mmdebstrap, Debian's own)
#   SUITE     bookworm
set -eu

[ $# -eq 2 ] || {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}
package=$(realpath "$1") out=$(realpath "$2")
here=$(realpath "$(dirname "$0")")
suite=${SUITE:-bookworm}
cache=${CACHE:-$here/../target/image}
mkdir -p "$cache"
cache=$(realpath "$cache")

# MiB. The firmware and the kernel need 80, the root 500, and the data partition
# grows to the end of the card at the first boot.
firmware_size=256 root_size=1100 data_size=192

# What a card with nothing to log in to needs. timesyncd sets the clock, which a
# Raspberry Pi does not keep; resolved finds the hub.
packages=linux-image-arm64,raspi-firmware,initramfs-tools,systemd-sysv,systemd-timesyncd
packages=$packages,systemd-resolved,udev,kmod,dbus,iproute2,e2fsprogs,fdisk,ca-certificates

# Drivers that the kernel needs to find its root, on boards and in QEMU. Naming
# them spares twenty minutes of looking at all of them under emulation.
modules="ext4 mmc_block sdhci_iproc sdhci_brcmstb bcm2835 bcm2835_wdt pcie_brcmstb
xhci_pci usb_storage uas genet lan78xx smsc95xx gpio_regulator reset_raspberrypi
clk_raspberrypi raspberrypi_power virtio_blk virtio_pci virtio_mmio virtio_net"

base() {
    echo "base system: some 15 minutes" >&2
    # shellcheck disable=SC2086
    mmdebstrap --mode=root --format=tar --variant=minbase --architectures=arm64 \
        --components="main non-free-firmware" --include="$packages" \
        --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --essential-hook='mkdir -p "$1/boot/firmware" "$1/etc/initramfs-tools/conf.d"' \
        --essential-hook='mkdir -p "$1/usr/share/initramfs-tools/modules.d"' \
        --essential-hook='echo MODULES=list >"$1/etc/initramfs-tools/conf.d/forebay"' \
        --essential-hook="printf '%s\n' $(echo $modules) >\"\$1/usr/share/initramfs-tools/modules.d/forebay\"" \
        "$suite" "$cache/base.tar.part" ${MIRROR:+"$MIRROR"} </dev/null
    mv "$cache/base.tar.part" "$cache/base.tar"
}

[ -e "$cache/base.tar" ] || base

work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
mkdir "$root"
tar -C "$root" --numeric-owner -xpf "$cache/base.tar"

# The package, as on any Debian. Without systemd running it is enabled only.
cp "$package" "$root/forebay.deb"
chroot "$root" env DEBIAN_FRONTEND=noninteractive dpkg --install /forebay.deb
rm "$root/forebay.deb"
# The package's script could not: it needs /proc.
systemd-tmpfiles --root="$root" --create forebay.conf

install -m 644 "$here/image/fstab" "$root/etc/fstab"
install -D -m 755 "$here/image/card" "$root/usr/lib/forebay/card"
install -m 644 "$here/image/forebay-card.service" "$root/usr/lib/systemd/system/"
install -D -m 644 "$here/image/wired.network" "$root/etc/systemd/network/20-wired.network"
install -D -m 644 "$here/image/watchdog.conf" "$root/etc/systemd/system.conf.d/watchdog.conf"
install -D -m 644 "$here/image/journald.conf" "$root/etc/systemd/journald.conf.d/volatile.conf"
systemctl --quiet --root="$root" enable \
    systemd-networkd systemd-resolved systemd-timesyncd forebay-card
# Nobody logs in: there is no user who could, and no prompt to try at.
systemctl --quiet --root="$root" mask getty@.service serial-getty@.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-networkd-wait-online.service
chroot "$root" passwd --quiet --lock root
echo forebay >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 forebay\n' >"$root/etc/hosts"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
# Empty: a new one in memory at each boot.
: >"$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root"/var/cache/apt/*.bin
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/log/*

# What changes goes to its own partition, with its owners.
data=$work/data
mkdir "$data" "$root/data"
mv "$root/var/lib/forebay" "$data/forebay"
mv "$root/etc/forebay" "$data/etc"
mv "$root/var/lib/systemd" "$data/systemd"
mkdir "$root/var/lib/forebay" "$root/etc/forebay" "$root/var/lib/systemd"

firmware=$work/firmware
mv "$root/boot/firmware" "$firmware"
mkdir "$root/boot/firmware" "$firmware/forebay"
echo "console=tty0 console=ttyS1,115200 root=LABEL=ROOT ro rootwait net.ifnames=0 panic=10" \
    >"$firmware/cmdline.txt"
cat >"$firmware/forebay/README.txt" <<'TEXT'
Put forebay.toml here, with the files it refers to. It is checked and taken over
at the next boot. A file named hostname one folder up names the machine.
TEXT

# The filesystems are made and filled without mounting them.
truncate -s "${firmware_size}M" "$work/firmware.img"
mkfs.vfat -F 32 -n FIRMWARE "$work/firmware.img" >/dev/null
(cd "$firmware" && mcopy -s -Q -m -i "$work/firmware.img" ./* ::/)
filesystem() {
    truncate -s "$3M" "$work/$1.img"
    mke2fs -q -t ext4 -L "$1" -d "$2" "$work/$1.img"
}
filesystem ROOT "$root" $root_size
filesystem DATA "$data" $data_size

# An MBR, which every Raspberry Pi reads; 4 MiB in front, as flash likes it.
root_at=$((4 + firmware_size)) data_at=$((4 + firmware_size + root_size))
rm -f "$out"
truncate -s "$((data_at + data_size))M" "$out"
sfdisk --quiet "$out" <<TABLE
label: dos
start=4MiB, size=${firmware_size}MiB, type=c, bootable
start=${root_at}MiB, size=${root_size}MiB, type=83
start=${data_at}MiB, size=${data_size}MiB, type=83
TABLE
dd if="$work/firmware.img" of="$out" bs=1M seek=4 conv=notrunc,sparse status=none
dd if="$work/ROOT.img" of="$out" bs=1M seek="$root_at" conv=notrunc,sparse status=none
dd if="$work/DATA.img" of="$out" bs=1M seek="$data_at" conv=notrunc,sparse status=none
echo "$out: $((data_at + data_size)) MiB"
