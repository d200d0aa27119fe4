#!/bin/sh
# Installs what cross/build.sh needs on Debian 12 (amd64), as root. Running it
# again changes nothing.
#
#   cross/setup.sh [arm64] [armhf] [image]      default: arm64 armhf
#
# `image` is what cross/image.sh and its test need beside arm64.
#
# The compiler is Debian's rustc-web: the only one in Debian 12 that is new
# enough, and the one whose standard library for arm64 is a package of its own.
# It installs beside rustup and does not replace it.
set -eu

targets=${*:-arm64 armhf}
packages="rustc-web cargo-web gcc"

for target in $targets; do
    case $target in
    arm64)
        # libc6 and libgcc-s1 are for running the result under qemu: with those
        # of the cross packages (-L) its first thread spins for ever.
        packages="$packages libstd-rust-web-dev:arm64 gcc-aarch64-linux-gnu
            libc6-dev-arm64-cross libc6:arm64 libgcc-s1:arm64"
        ;;
    armhf)
        # The standard library is compiled from its sources. armhf is not added
        # as a foreign architecture: mirrors let its security index go stale,
        # and apt then drops the security updates of all other ones as well.
        packages="$packages rust-web-src gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"
        ;;
    image)
        packages="$packages mmdebstrap arch-test mtools dosfstools e2fsprogs fdisk
            qemu-system-arm"
        ;;
    *)
        echo "cross/setup.sh: $target: expected arm64, armhf or image" >&2
        exit 64
        ;;
    esac
done

case " $targets " in
*" arm64 "*) dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64 ;;
esac
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    $packages qemu-user-static binutils

# Where systemd does not run nobody registers qemu. The flag F in these lines
# loads the interpreter at once, so that a chroot needs no copy of it.
register=/proc/sys/fs/binfmt_misc/register
[ -e "$register" ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc || true
for cpu in aarch64 arm; do
    if [ -e "$register" ] && [ ! -e "/proc/sys/fs/binfmt_misc/qemu-$cpu" ]; then
        cat "/usr/lib/binfmt.d/qemu-$cpu.conf" >"$register"
    fi
done
