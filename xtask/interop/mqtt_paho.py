"""MQTT scenarios with paho, in 3.1.1 and 5."""

import queue
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from peers import PATIENCE_S, expect, main, wait_for

V5 = mqtt.MQTTv5
V311 = mqtt.MQTTv311

# "websockets" runs the same scenarios over that transport.
transport = "tcp"


class Peer:
    """A connected client that keeps what it receives."""

    def __init__(self, address, name, version, clean=True, expiry_s=0, will=None):
        self.received = queue.Queue()
        self.connected = threading.Event()
        self.disconnected = threading.Event()
        self.session_present = None
        self.reasons = []
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=version,
            transport=transport,
            **({} if version == V5 else {"clean_session": clean}),
        )
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _c, _u, message: self.received.put(message)
        if will:
            self.client.will_set(*will)
        host, port = address.rsplit(":", 1)
        extra = {}
        if version == V5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = expiry_s
            extra = {"clean_start": clean, "properties": properties}
        self.client.connect(host, int(port), keepalive=30, **extra)
        self.client.loop_start()
        if not self.connected.wait(PATIENCE_S):
            raise AssertionError(f"{name} is not connected")

    def _on_connect(self, _client, _userdata, flags, reason, _properties):
        self.session_present = flags.session_present
        self.reasons.append(reason)
        self.connected.set()

    def _on_disconnect(self, _client, _userdata, _flags, reason, _properties):
        self.reasons.append(reason)
        self.disconnected.set()

    def subscribe(self, topic, qos):
        """Subscribes and waits for the SUBACK."""
        done = threading.Event()
        codes = []

        def on_subscribe(_client, _userdata, _mid, reasons, _properties):
            codes.extend(reasons)
            done.set()

        self.client.on_subscribe = on_subscribe
        self.client.subscribe(topic, qos)
        if not done.wait(PATIENCE_S):
            raise AssertionError(f"no SUBACK for {topic}")
        return codes

    def publish(self, topic, payload, qos=1, retain=False):
        """Publishes and waits until the exchange is finished."""
        info = self.client.publish(topic, payload, qos, retain)
        info.wait_for_publish(PATIENCE_S)
        if not info.is_published():
            raise AssertionError(f"publish to {topic} at QoS {qos} is not finished")

    def next(self, what="a message"):
        """The next message received."""
        try:
            return self.received.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"waited {PATIENCE_S} s for {what}") from None

    def silent(self, seconds=0.5):
        """Checks that nothing more comes."""
        try:
            message = self.received.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"unexpected message on {message.topic}: {message.payload!r}")

    def close(self):
        """Disconnects in order."""
        self.client.disconnect()
        self.client.loop_stop()

    def break_off(self):
        """Drops the connection without DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


def qos(address, version):
    """Each QoS out meets each QoS in at the smaller of both, in order."""
    publisher = Peer(address, "publisher", version)
    for granted in (0, 1, 2):
        subscriber = Peer(address, f"subscriber-{granted}", version)
        subscriber.subscribe(f"line/{granted}/#", granted)
        for sent in (0, 1, 2):
            for number in range(50):
                publisher.publish(f"line/{granted}/t", f"{sent}-{number}", sent)
        for sent in (0, 1, 2):
            for number in range(50):
                message = subscriber.next()
                expect(message.payload.decode(), f"{sent}-{number}", "order")
                expect(message.qos, min(sent, granted), f"QoS of {message.payload!r}")
                expect(message.retain, False, "retain flag of live messages")
        subscriber.silent()
        subscriber.close()
    publisher.close()


def retained(address, version):
    """The newest retained message is delivered to a new subscription."""
    publisher = Peer(address, "publisher", version)
    publisher.publish("kept/a", "old", retain=True)
    publisher.publish("kept/a", "new", retain=True)
    publisher.publish("kept/b", "gone", retain=True)
    publisher.publish("kept/b", "", retain=True)
    subscriber = Peer(address, "subscriber", version)
    subscriber.subscribe("kept/+", 1)
    message = subscriber.next("the retained message")
    expect((message.topic, message.payload, message.retain), ("kept/a", b"new", True), "retained")
    subscriber.silent()
    publisher.publish("kept/a", "live", retain=True)
    message = subscriber.next("the live message")
    expect((message.payload, message.retain), (b"live", False), "live")
    subscriber.close()
    publisher.close()


def will(address, version):
    """A will is published when a connection breaks, not when it is closed."""
    watcher = Peer(address, "watcher", version)
    watcher.subscribe("status/#", 1)
    orderly = Peer(address, "orderly", version, will=("status/orderly", "lost", 1, False))
    orderly.close()
    broken = Peer(address, "broken", version, will=("status/broken", "lost", 1, True))
    broken.break_off()
    message = watcher.next("the will")
    expect((message.topic, message.payload), ("status/broken", b"lost"), "will")
    watcher.silent()
    late = Peer(address, "late", version)
    late.subscribe("status/broken", 1)
    expect(late.next("the retained will").retain, True, "retained will")
    late.close()
    watcher.close()


def session(address, version):
    """A persistent session gets what came while it was away, once.

    Order holds within a QoS: paho hands a QoS 2 message over at its PUBREL.
    """
    subscriber = Peer(address, "returning", version, clean=False, expiry_s=300)
    expect(subscriber.session_present, False, "session present at first")
    subscriber.subscribe("queue/#", 2)
    subscriber.close()
    publisher = Peer(address, "publisher", version)
    for number in range(200):
        publisher.publish("queue/t", str(number), 1 + number % 2)
    subscriber = Peer(address, "returning", version, clean=False, expiry_s=300)
    expect(subscriber.session_present, True, "session present")
    seen = {1: [], 2: []}
    for number in range(200):
        message = subscriber.next(f"message {number}")
        seen[message.qos].append(int(message.payload))
    expect(seen[1], list(range(0, 200, 2)), "QoS 1 after the absence")
    expect(seen[2], list(range(1, 200, 2)), "QoS 2 after the absence")
    subscriber.silent()
    subscriber.close()
    subscriber = Peer(address, "returning", version, clean=True)
    expect(subscriber.session_present, False, "session present after a clean start")
    publisher.publish("queue/t", "late", 1)
    subscriber.silent()
    subscriber.close()
    publisher.close()


def takeover(address, version):
    """A second connection with the same client id ends the first."""
    first = Peer(address, "twin", version)
    first.client.reconnect_delay_set(60, 120)
    second = Peer(address, "twin", version)
    if not first.disconnected.wait(PATIENCE_S):
        raise AssertionError("the first connection lives on")
    if version == V5:
        expect(first.reasons[-1].value, 0x8E, "reason of the first (session taken over)")
    second.publish("twin/t", "still here")
    first.client.loop_stop()
    second.close()


def wildcards(address, version):
    """Filters match as section 4.7 says; an overlap is one session's matter."""
    cases = [
        ("a/+/c", {"a/b/c", "a//c"}),
        ("a/#", {"a", "a/b", "a/b/c", "a//c"}),
        ("+/+", {"a/b", "/a", "\u00e9/x"}),
        ("+", {"a"}),
        ("/+", {"/a"}),
        ("#", {"a", "a/b", "a/b/c", "a//c", "/a", "\u00e9/x"}),
    ]
    topics = ["a", "a/b", "a/b/c", "a//c", "/a", "\u00e9/x"]
    subscribers = []
    for number, (topic, matching) in enumerate(cases):
        subscriber = Peer(address, f"filter-{number}", version)
        subscriber.subscribe(topic, 1)
        subscribers.append((subscriber, topic, matching))
    publisher = Peer(address, "publisher", version)
    for topic in topics:
        publisher.publish(topic, topic)
    for subscriber, topic, matching in subscribers:
        seen = {subscriber.next(f"messages for {topic}").topic for _ in matching}
        expect(seen, matching, f"matches of {topic}")
        subscriber.silent(0.2)
        subscriber.close()
    publisher.close()


def unsubscribe(address, version):
    """Nothing is delivered behind the UNSUBACK."""
    peer = Peer(address, "leaver", version)
    peer.subscribe("news", 1)
    peer.publish("news", "one")
    expect(peer.next().payload, b"one", "before")
    done = threading.Event()
    peer.client.on_unsubscribe = lambda *_: done.set()
    peer.client.unsubscribe("news")
    wait_for(done.is_set, "UNSUBACK")
    peer.publish("news", "two")
    peer.silent()
    peer.close()


def in_both(scenario):
    def run(version, address, websocket):
        global transport
        if websocket:
            transport = "websockets"
        scenario(websocket or address, version)

    return {
        f"{scenario.__name__}-{name}": lambda address, _kafka, websocket=None, v=version: run(
            v, address, websocket
        )
        for name, version in (("v311", V311), ("v5", V5))
    }


if __name__ == "__main__":
    table = {}
    for function in (qos, retained, will, session, takeover, wildcards, unsubscribe):
        table.update(in_both(function))
    main(table)
