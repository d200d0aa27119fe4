#!/bin/sh
# Runs cargo for another board, on Debian 12 prepared by cross/setup.sh.
#
#   cross/build.sh arm64|armhf [cargo words ...]
#
# Without cargo words it builds the program:
#   build --package forebay-gateway --bin forebay
# Others are taken as they are, with --target and --profile added:
#   cross/build.sh arm64 test --package forebay-storage
# Tests run under qemu by themselves.
#
# PROFILE names the cargo profile; the default is `release`, for tests `dev`.
set -eu
cd "$(dirname "$0")/.."

case ${1:-} in
arm64)
    triple=aarch64-unknown-linux-gnu prefix=aarch64-linux-gnu std=
    runner=qemu-aarch64-static
    ;;
armhf)
    # NEON is left to the libraries that look for it: an ARMv7 need not have it.
    triple=armv7-unknown-linux-gnueabihf prefix=arm-linux-gnueabihf
    std=-Zbuild-std=std,panic_abort
    # In the environment and not as an option: a test that starts itself again is
    # given to qemu by the kernel.
    export QEMU_LD_PREFIX=/usr/arm-linux-gnueabihf
    runner=qemu-arm-static
    # -Z on a stable compiler. It is the same source of std that Debian built
    # its own packages from.
    export RUSTC_BOOTSTRAP=1
    ;;
*)
    echo "usage: cross/build.sh arm64|armhf [cargo words ...]" >&2
    exit 64
    ;;
esac
shift

[ $# -gt 0 ] || set -- build --package forebay-gateway --bin forebay
verb=$1
shift
case $verb in
test) profile=${PROFILE:-dev} ;;
*) profile=${PROFILE:-release} ;;
esac

# Debian's compiler even where rustup comes first: a standard library fits only
# the compiler that it was built with.
export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc
upper=$(echo "$triple" | tr 'a-z-' 'A-Z_')
lower=$(echo "$triple" | tr - _)
export "CARGO_TARGET_${upper}_LINKER=$prefix-gcc"
export "CARGO_TARGET_${upper}_RUNNER=$runner"
export "CC_$lower=$prefix-gcc" "AR_$lower=$prefix-ar"

# cargo wants its own options in front of `--`, behind which those of the test
# program stand; in front of all others is always right.
# shellcheck disable=SC2086
exec /usr/bin/cargo "$verb" --locked --profile "$profile" --target "$triple" $std "$@"
