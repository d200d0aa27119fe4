"""Sparkplug scenarios: pysparkplug as the edge node, raw paho as the observer.

pysparkplug wants paho-mqtt 1, so this script has an environment of its own.
"""

import json
import queue
import threading

import paho.mqtt.client as mqtt
import pysparkplug as sp
from pysparkplug import _protobuf as protobuf

from peers import PATIENCE_S, expect, main, wait_for

GROUP = "Hall 3"
EDGE = "press-7"
DEVICE = "drive"
NOW_MS = 1_763_856_000_000


class Observer:
    """Subscribes to a filter and keeps what comes, by topic."""

    def __init__(self, address, name, *filters):
        self.messages = []
        self.live = queue.Queue()
        self.lock = threading.Lock()
        self.client = mqtt.Client(client_id=name)
        self.client.on_message = self._on_message
        done = threading.Event()
        left = set()

        def on_subscribe(_client, _userdata, mid, _codes):
            left.discard(mid)
            if not left:
                done.set()

        self.client.on_subscribe = on_subscribe
        host, port = address.rsplit(":", 1)
        self.client.connect(host, int(port), keepalive=30)
        connected = threading.Event()
        self.client.on_connect = lambda *_: connected.set()
        self.client.loop_start()
        if not connected.wait(PATIENCE_S):
            raise AssertionError(f"{name} is not connected")
        for wanted in filters:
            left.add(self.client.subscribe(wanted, 1)[1])
        if not done.wait(PATIENCE_S):
            raise AssertionError(f"{name} got no SUBACK")

    def _on_message(self, _client, _userdata, message):
        with self.lock:
            self.messages.append(message)

    def on(self, topic):
        """The messages of one topic so far."""
        with self.lock:
            return [m for m in self.messages if m.topic == topic]

    def readings(self, metric):
        """The JSON of one metric's readings so far."""
        topic = f"sparkplug/{GROUP}/{EDGE}/{metric}"
        return [json.loads(m.payload) for m in self.on(topic)]

    def reading(self, metric, **wanted):
        """Waits for a reading with these fields."""

        def found():
            for seen in self.readings(metric):
                if all(seen.get(key) == value for key, value in wanted.items()):
                    return seen
            return None

        return wait_for(found, f"{metric} with {wanted}; {self.readings(metric)}")


def metric(name, datatype, value, alias=None, **more):
    """A metric with a fixed time."""
    return sp.Metric(
        timestamp=NOW_MS, name=name, datatype=datatype, value=value, alias=alias, **more
    )


def connect(address, on_command=lambda *_: None):
    """An edge node with a device, connected."""
    node = sp.EdgeNode(
        GROUP,
        EDGE,
        [
            metric("Node Control/Rebirth", sp.DataType.BOOLEAN, False),
            metric("line/temp", sp.DataType.DOUBLE, 20.5, alias=1),
            metric("count", sp.DataType.INT16, -3, alias=2),
            metric("name", sp.DataType.STRING, "Süd", alias=3),
        ],
        cmd_callback=on_command,
    )
    node.register(sp.Device(DEVICE, [metric("rpm", sp.DataType.UINT32, 900, alias=4)]))
    host, port = address.rsplit(":", 1)
    node.connect(host, port=int(port))
    return node


def publish_raw(node, kind, metrics, seq, device=None):
    """Publishes a payload with exactly this number and these metrics."""
    payload = protobuf.Payload()
    payload.timestamp = NOW_MS + 1
    payload.seq = seq
    payload.metrics.extend(metrics)
    topic = f"spBv1.0/{GROUP}/{kind}/{EDGE}" + (f"/{device}" if device else "")
    paho = node._client._client
    paho.publish(topic, payload.SerializeToString(), qos=0).wait_for_publish(PATIENCE_S)


def by_alias(alias, field, value):
    """A metric that only has its alias, as aliased data is sent."""
    found = protobuf.Metric()
    found.alias = alias
    setattr(found, field, value)
    return found


def births(address, _kafka):
    """Births of node and device become readings of every metric."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    reading = seen.reading("line/temp", value=20.5)
    expect(reading["quality"], "good", "quality")
    expect(reading["timestamp"], NOW_MS, "timestamp")
    seen.reading("count", value=-3)
    seen.reading("name", value="Süd")
    seen.reading(f"{DEVICE}/rpm", value=900)
    expect(seen.readings("Node Control/Rebirth"), [], "session metrics")
    node.disconnect()


def aliases(address, _kafka):
    """Data that names its metrics by alias reaches the right paths."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    seen.reading(f"{DEVICE}/rpm", value=900)
    publish_raw(node, "NDATA", [by_alias(1, "double_value", 21.5)], 2)
    publish_raw(node, "NDATA", [by_alias(2, "int_value", 0xFFFF_FFFE)], 3)
    publish_raw(node, "DDATA", [by_alias(4, "int_value", 901)], 4, DEVICE)
    seen.reading("line/temp", value=21.5, timestamp=NOW_MS + 1)
    seen.reading("count", value=-2)
    seen.reading(f"{DEVICE}/rpm", value=901)
    node.disconnect()


def data(address, _kafka):
    """Data as the library sends it by itself, by name and without types."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    seen.reading(f"{DEVICE}/rpm", value=900)
    node.update([metric("line/temp", sp.DataType.DOUBLE, 22.25)])
    node.update_device(DEVICE, [metric("rpm", sp.DataType.UINT32, 902)])
    seen.reading("line/temp", value=22.25)
    seen.reading(f"{DEVICE}/rpm", value=902)
    node.update([metric("line/temp", sp.DataType.DOUBLE, 1.5, is_historical=True)])
    seen.reading("line/temp", value=1.5, status="historical", quality="good")
    node.update([metric("line/temp", sp.DataType.DOUBLE, None, is_null=True)])
    seen.reading("line/temp", value=None, quality="good")
    node.disconnect()


def gap_rebirth(address, _kafka):
    """A missing number brings a rebirth request that the library understands."""
    commands = queue.Queue()
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address, lambda _node, message: commands.put(message))
    seen.reading(f"{DEVICE}/rpm", value=900)
    publish_raw(node, "NDATA", [by_alias(1, "double_value", 23.0)], 9)
    request = commands.get(timeout=PATIENCE_S)
    wanted = request.payload.metrics[0]
    expect(wanted.name, "Node Control/Rebirth", "command")
    expect(wanted.value, True, "command value")
    # What came behind the gap is not lost.
    seen.reading("line/temp", value=23.0)
    node.disconnect()


def device_death(address, _kafka):
    """A device that leaves has bad metrics; its edge node does not."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    seen.reading(f"{DEVICE}/rpm", value=900)
    node.deregister(DEVICE)
    seen.reading(f"{DEVICE}/rpm", value=None, quality="bad", status="stale")
    expect([r for r in seen.readings("line/temp") if r["quality"] != "good"], [], "node")
    node.disconnect()


def death(address, _kafka):
    """The will of a connection that breaks makes every metric bad."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    seen.reading(f"{DEVICE}/rpm", value=900)
    # Cut without a DISCONNECT.
    paho = node._client._client
    paho.loop_stop()
    paho._sock_close()
    for name in ["line/temp", "count", "name", f"{DEVICE}/rpm"]:
        seen.reading(name, value=None, quality="bad", status="stale")


def certificates(address, _kafka):
    """Who comes later finds the births as retained messages, and only them."""
    seen = Observer(address, "seen", "sparkplug/#")
    node = connect(address)
    seen.reading(f"{DEVICE}/rpm", value=900)
    late = Observer(address, "late", "$sparkplug/certificates/#", "spBv1.0/#")
    base = "$sparkplug/certificates/spBv1.0"
    for topic, name in [
        (f"{base}/{GROUP}/NBIRTH/{EDGE}", "line/temp"),
        (f"{base}/{GROUP}/DBIRTH/{EDGE}/{DEVICE}", "rpm"),
    ]:
        message = wait_for(lambda topic=topic: late.on(topic), topic)[0]
        expect(message.retain, 1, "retain flag")
        payload = protobuf.Payload.FromString(message.payload)
        names = [found.name for found in payload.metrics]
        expect(name in names, True, f"{name} in {names}")
    expect(late.on(f"spBv1.0/{GROUP}/NBIRTH/{EDGE}"), [], "the birth itself is not retained")
    node.disconnect()


def certificates_kept(address, _kafka):
    """After a restart the certificates are there, and nobody has published."""
    late = Observer(address, "late", "$sparkplug/certificates/#")
    base = "$sparkplug/certificates/spBv1.0"
    wait_for(lambda: late.on(f"{base}/{GROUP}/NBIRTH/{EDGE}"), "NBIRTH")
    wait_for(lambda: late.on(f"{base}/{GROUP}/DBIRTH/{EDGE}/{DEVICE}"), "DBIRTH")


def state(address, _kafka):
    """The host says that it is there, and contradicts who says otherwise."""
    topic = "spBv1.0/STATE/interop"
    seen = Observer(address, "seen", topic)
    born = json.loads(wait_for(lambda: seen.on(topic), "STATE")[0].payload)
    expect(born["online"], True, "online")
    offline = json.dumps({"online": False, "timestamp": born["timestamp"]})
    seen.client.publish(topic, offline, qos=1, retain=True)
    wait_for(lambda: len(seen.on(topic)) == 3, "the contradiction")
    expect(json.loads(seen.on(topic)[2].payload), born, "STATE")


main(
    {
        "births": births,
        "aliases": aliases,
        "data": data,
        "gap-rebirth": gap_rebirth,
        "device-death": device_death,
        "death": death,
        "certificates": certificates,
        "certificates-kept": certificates_kept,
        "state": state,
    }
)
