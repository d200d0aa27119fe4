#!/bin/sh
# Writes a container image, without a Docker daemon and without root.
#
#   containers/oci.sh OUT.tar amd64=PROGRAM [arm64=PROGRAM]
#
# OUT.tar is an OCI archive: `podman load -i`, `docker load -i` (25 and later),
# `ctr image import` and `skopeo copy oci-archive:OUT.tar` take it. It holds the
# program, the C library of the Debian that this runs on, the certificate
# authorities and nothing else: no shell, no package manager. For arm64 the C
# library comes from the packages that cross/setup.sh installs.
#
# The same input makes the same bytes: SOURCE_DATE_EPOCH dates everything.
set -eu

[ $# -ge 2 ] || {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}
out=$(realpath "$1")
shift
repository=$(realpath "$(dirname "$0")/..")
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$repository/Cargo.toml" | head -n 1)
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$repository" log -1 --format=%ct 2>/dev/null || echo 0)}
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
layout=$work/layout
mkdir -p "$layout/blobs/sha256"

# Moves a file into the layout; sets `digest` and `size`.
blob() {
    digest=$(sha256sum "$1" | cut -d ' ' -f 1)
    size=$(stat -c %s "$1")
    mv "$1" "$layout/blobs/sha256/$digest"
}

# Copies a library of the C library's packages, wherever Debian links it from.
library() {
    for directory in "/usr/lib/$triplet" "/lib/$triplet" "/usr/$triplet/lib"; do
        if [ -e "$directory/$1" ]; then
            install -D -m 755 "$(realpath "$directory/$1")" "$root/usr/lib/$triplet/$1"
            return
        fi
    done
    echo "containers/oci.sh: $1 for $architecture is missing; see cross/setup.sh" >&2
    exit 69
}

root_of() {
    program=$1 root=$work/$architecture
    case $architecture in
    amd64) triplet=x86_64-linux-gnu loader=lib64/ld-linux-x86-64.so.2 ;;
    arm64) triplet=aarch64-linux-gnu loader=lib/ld-linux-aarch64.so.1 ;;
    *)
        echo "containers/oci.sh: $architecture: expected amd64 or arm64" >&2
        exit 64
        ;;
    esac
    install -D -m 755 "$program" "$root/usr/bin/forebay"
    "$triplet-strip" "$root/usr/bin/forebay"
    for name in libc.so.6 libm.so.6 libgcc_s.so.1; do library "$name"; done
    mkdir -p "$root/$(dirname "usr/$loader")"
    library "$(basename "$loader")"
    ln -sf "/usr/lib/$triplet/$(basename "$loader")" "$root/usr/$loader"
    ln -s usr/lib "$root/lib"
    ln -s usr/lib64 "$root/lib64"

    mkdir -p "$root/var/lib/forebay" "$root/tmp" "$root/etc/ssl/certs"
    chmod 750 "$root/var/lib/forebay"
    chmod 1777 "$root/tmp"
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    echo 'forebay:x:65532:65532:Forebay:/var/lib/forebay:/usr/sbin/nologin' >"$root/etc/passwd"
    echo 'forebay:x:65532:' >"$root/etc/group"
    install -D -m 644 "$repository/packaging/forebay.toml" "$root/etc/forebay/forebay.toml"
    install -D -m 644 "$repository/LICENSE" "$root/usr/share/doc/forebay/LICENSE"
}

# Writes the manifest of one architecture; sets `descriptor`.
image() {
    # Everything is root's but the log, which a fresh volume inherits.
    tar -C "$root" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner \
        --exclude=./var/lib/forebay -cf "$work/layer" .
    tar -C "$root" --mtime="@$epoch" --owner=65532 --group=65532 --numeric-owner \
        -rf "$work/layer" ./var/lib/forebay
    plain=$(sha256sum "$work/layer" | cut -d ' ' -f 1)
    gzip -9n "$work/layer"
    blob "$work/layer.gz"
    layer="{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$size}"

    cat >"$work/config" <<JSON
{"created":"$created","architecture":"$architecture","os":"linux",
"config":{"User":"65532:65532","Entrypoint":["/usr/bin/forebay"],
"Cmd":["run","--config","/etc/forebay/forebay.toml"],
"Env":["PATH=/usr/bin","MALLOC_ARENA_MAX=2"],"WorkingDir":"/var/lib/forebay",
"Volumes":{"/var/lib/forebay":{}},"StopSignal":"SIGTERM",
"ExposedPorts":{"1883/tcp":{},"8080/tcp":{},"9092/tcp":{}},
"Labels":{"org.opencontainers.image.title":"forebay","org.opencontainers.image.version":"$version",
"org.opencontainers.image.licenses":"Apache-2.0"}},
"rootfs":{"type":"layers","diff_ids":["sha256:$plain"]},
"history":[{"created":"$created","created_by":"containers/oci.sh"}]}
JSON
    blob "$work/config"
    cat >"$work/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:$digest","size":$size},
"layers":[$layer]}
JSON
    blob "$work/manifest"
    descriptor="\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:$digest\",\"size\":$size,\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"}"
}

descriptors=
for word in "$@"; do
    architecture=${word%%=*}
    root_of "${word#*=}"
    image
    descriptors=$descriptors${descriptors:+,}{$descriptor}
done

name="\"annotations\":{\"io.containerd.image.name\":\"localhost/forebay:$version\",\"org.opencontainers.image.ref.name\":\"$version\"}"
if [ $# -gt 1 ]; then
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}\n' \
        "$descriptors" >"$work/index"
    blob "$work/index"
    descriptor="\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"digest\":\"sha256:$digest\",\"size\":$size"
fi
printf '{"schemaVersion":2,"manifests":[{%s,%s}]}\n' "$descriptor" "$name" >"$layout/index.json"
printf '{"imageLayoutVersion":"1.0.0"}\n' >"$layout/oci-layout"
tar -C "$layout" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf "$out" .
echo "$out: $(($(stat -c %s "$out") / 1000000)) MB"
