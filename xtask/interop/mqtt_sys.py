"""$SYS topics as tools read them, with mosquitto_sub and paho."""

import subprocess

from mqtt_paho import V5, V311, Peer
from peers import PATIENCE_S, expect, main, wait_for

NAMES = [
    "version",
    "uptime",
    "clients/connected",
    "clients/total",
    "clients/disconnected",
    "messages/received",
    "messages/sent",
    "publish/messages/received",
    "publish/bytes/sent",
    "bytes/received",
    "bytes/sent",
    "subscriptions/count",
    "retained messages/count",
    "load/messages/received/1min",
    "heap/current",
]


def mosquitto_sub(address, version, *words):
    """What mosquitto_sub prints until it has what it was told to wait for."""
    host, port = address.rsplit(":", 1)
    ran = subprocess.run(
        ["mosquitto_sub", "-V", version, "-h", host, "-p", port, *words],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return ran.stdout.splitlines()


def sys(address, version):
    """Values greet as retained, follow what happens, and hide from wildcards."""
    name = {V5: "mqttv5", V311: "mqttv311"}[version]
    filters = [word for tail in NAMES for word in ("-t", f"$SYS/broker/{tail}")]
    lines = mosquitto_sub(
        address, name, *filters, "-C", str(len(NAMES)), "-F", "%r %t|%p", "--retained-only"
    )
    greeting = {}
    for line in lines:
        retained, rest = line.split(" ", 1)
        topic, value = rest.split("|", 1)
        expect(retained, "1", f"retain flag of {topic}")
        greeting[topic.removeprefix("$SYS/broker/")] = value
    expect(sorted(greeting), sorted(NAMES), "names")
    expect(greeting["version"].startswith("forebay version "), True, greeting["version"])
    expect(greeting["uptime"].endswith(" seconds"), True, greeting["uptime"])
    for tail in NAMES[2:]:
        float(greeting[tail])

    peers = [Peer(address, f"peer-{number}", version) for number in range(3)]
    peers[0].publish("kept", "x", retain=True)

    def shows(topic, expected):
        [value] = mosquitto_sub(
            address, name, "-t", f"$SYS/broker/{topic}", "-C", "1", "-F", "%p"
        )
        return value == expected

    # mosquitto_sub itself may or may not be in the figure that greets it.
    wait_for(
        lambda: shows("clients/connected", "3") or shows("clients/connected", "4"),
        "three clients",
    )
    wait_for(lambda: shows("retained messages/count", "1"), "one retained message")

    hidden = peers[1]
    hidden.subscribe("#", 1)
    hidden.subscribe("+/broker/#", 1)
    expect(hidden.next().topic, "kept", "the only message for #")
    # Live updates come to who asks by name, and only there.
    watcher = peers[2]
    watcher.subscribe("$SYS/broker/bytes/#", 1)
    seen = [watcher.next("an update") for _ in range(6)]
    expect({message.qos for message in seen}, {0}, "QoS")
    expect(any(not message.retain for message in seen), True, "live updates")
    hidden.silent()
    # Nobody publishes there: 3.1.1 is closed, 5 is told.
    liar = Peer(address, "liar", version)
    info = liar.client.publish("$SYS/broker/version", "lie", 1)
    if version == V311:
        wait_for(liar.disconnected.is_set, "the end of the connection")
    else:
        info.wait_for_publish(PATIENCE_S)
    liar.client.loop_stop()
    expect(shows("version", greeting["version"]), True, "the version is the same")


if __name__ == "__main__":
    main(
        {
            "sys-v311": lambda address, _kafka: sys(address, V311),
            "sys-v5": lambda address, _kafka: sys(address, V5),
        }
    )
