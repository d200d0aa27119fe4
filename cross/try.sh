#!/bin/sh
# Runs a program for a board under qemu and publishes to it.
#
#   cross/try.sh arm64|armhf PROGRAM
#
# It answers --version, checks the shipped configuration, takes readings over
# MQTT and gives them to a Kafka consumer, a subscriber and its own `tail`, ends on
# SIGTERM, and has everything again after a restart and after a kill.
#
# As any user, on a machine prepared by cross/setup.sh, with curl, kcat and the
# clients of mosquitto. Takes seconds.
set -eu

[ $# -eq 2 ] || {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 64
}
program=$(realpath "$2")
cd "$(dirname "$0")/.."
case $1 in
arm64) emulator=qemu-aarch64-static ;;
armhf) emulator="qemu-arm-static -L /usr/arm-linux-gnueabihf" ;;
*)
    echo "cross/try.sh: $1: expected arm64 or armhf" >&2
    exit 64
    ;;
esac

work=$(mktemp -d)
node=
end() {
    [ -z "$node" ] || kill -KILL "$node" 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
fail() {
    echo "cross/try.sh: $*" >&2
    cat "$work/log" >&2
    exit 1
}
forebay() {
    # shellcheck disable=SC2086
    $emulator "$program" "$@"
}

: >"$work/log"
forebay --version
forebay check --config config/gateway.toml
cat >"$work/node.toml" <<TOML
[node]
name = "board"
role = "gateway"
data_dir = "$work/data"
[mqtt]
listen = "127.0.0.1:0"
[kafka]
listen = "127.0.0.1:0"
[http]
listen = "127.0.0.1:0"
TOML

port() {
    sed -n "s/.*\"$1\" *: *\([0-9]*\).*/\1/p" "$work/data/ports.json"
}

# Starts the node and waits until it says that it is ready.
start() {
    rm -f "$work/data/ports.json"
    # shellcheck disable=SC2086
    $emulator "$program" run --config "$work/node.toml" >>"$work/log" 2>&1 &
    node=$!
    for _ in $(seq 600); do
        kill -0 "$node" 2>/dev/null || fail "the node ended"
        if [ -e "$work/data/ports.json" ] && http=$(port http) && [ -n "$http" ] \
            && curl --silent --fail --output /dev/null "http://127.0.0.1:$http/readyz"; then
            mqtt=$(port mqtt) kafka=$(port kafka)
            return
        fi
        sleep 0.1
    done
    fail "the node is not ready after a minute"
}

# Holds what the log has against the numbers up to $1.
expect() {
    seq "$1" | LC_ALL=C sort >"$work/expected"
    for reader in kcat tail; do
        case $reader in
        kcat) timeout 60 kcat -C -q -b "127.0.0.1:$kafka" -t readings -o beginning -e -f '%s\n' ;;
        tail) forebay tail readings --bootstrap "127.0.0.1:$kafka" --from earliest --json \
            | sed -n 's/.*"value": *"\([0-9]*\)".*/\1/p' ;;
        esac | LC_ALL=C sort >"$work/read" || fail "$reader failed"
        cmp -s "$work/expected" "$work/read" || {
            diff "$work/expected" "$work/read" | head >&2
            fail "$reader has not read the numbers up to $1"
        }
    done
}

start
timeout 60 mosquitto_sub -p "$mqtt" -t plant/press -q 1 -C 1000 -i reader >"$work/heard" &
subscriber=$!
for _ in $(seq 100); do
    curl --silent "http://127.0.0.1:$http/metrics" | grep -q '^forebay_mqtt_subscriptions [1-9]' && break
    sleep 0.1
done
seq 1000 | timeout 60 mosquitto_pub -p "$mqtt" -t plant/press -q 1 -l || fail "publishing failed"
wait "$subscriber" || fail "a subscriber did not hear everything"
seq 1000 | cmp -s - "$work/heard" || fail "a subscriber heard something else"
expect 1000
kill -TERM "$node"
wait "$node" || fail "the node did not end well on SIGTERM"

start
expect 1000
seq 1001 1500 | timeout 60 mosquitto_pub -p "$mqtt" -t plant/press -q 1 -l || fail "publishing failed"
kill -KILL "$node"
wait "$node" 2>/dev/null || true

start
expect 1500
kill -TERM "$node"
wait "$node" || fail "the node did not end well on SIGTERM"
node=
echo "$1: published, read, stopped, killed and read again"
