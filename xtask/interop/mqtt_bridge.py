"""A bridge between a gateway and a mosquitto broker, with paho on both sides.

The bridge carries up/# here to site/# there and center/# there to down/# here.
"""

import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from peers import PATIENCE_S, expect, main, wait_for

# The longest that all messages may take, restarts of both sides included: the
# bridge's pauses have grown to some ten seconds by then.
ARRIVAL_S = 90

# The longest that messages flow when nobody says that it is enough.
FLOW_S = 60

VERSIONS = {"5": mqtt.MQTTv5, "3.1.1": mqtt.MQTTv311}


class Side:
    """A client with a persistent session that reconnects by itself."""

    def __init__(self, address, name, version, filters=()):
        self.messages = []
        self.subscribed = threading.Event()
        self.version = version
        kept = {} if version == mqtt.MQTTv5 else {"clean_session": False}
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version, **kept
        )
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = lambda _c, _u, message: self.messages.append(message)
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        # What was published while the connection was gone says so for good, so
        # paho's own handles are of no use.
        self.finished = set()
        self.client.on_publish = lambda _c, _u, mid, *_: self.finished.add(mid)
        self.filters = [(topic, 1) for topic in filters]
        # Each time, because a broker that was killed may have forgotten.
        self.client.on_connect = lambda client, *_: self._connected(client)
        extra = {}
        if version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 3600
            extra = {"clean_start": False, "properties": properties}
        host, port = address.rsplit(":", 1)
        self.client.connect(host, int(port), keepalive=30, **extra)
        self.client.loop_start()
        if not self.subscribed.wait(PATIENCE_S):
            raise AssertionError(f"{name} is not connected")

    def _connected(self, client):
        if self.filters:
            client.subscribe(self.filters)
        else:
            self.subscribed.set()

    def publish(self, topic, payload, qos=1, retain=False, **fields):
        """Publishes, and waits until the exchange is finished."""
        properties = None
        if self.version == mqtt.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            for key, value in fields.items():
                setattr(properties, key, value)
        mid = self.client.publish(topic, payload, qos, retain, properties).mid
        wait_for(lambda: mid in self.finished, f"publish to {topic}")

    def payloads(self, topic):
        """What came on a topic so far."""
        return [m.payload.decode() for m in list(self.messages) if m.topic == topic]

    def close(self):
        """Disconnects in order."""
        self.client.disconnect()
        self.client.loop_stop()


def joined(near, far):
    """Waits until both directions work; probes are messages like all others."""
    numbers = iter(range(10_000))

    def probe():
        number = str(next(numbers))
        near.publish("up/probe", number)
        far.publish("center/probe", number)
        time.sleep(0.1)
        return far.payloads("site/probe") and near.payloads("down/probe")

    wait_for(probe, "both directions")


def sides(address, broker, version, name, *numbers):
    near = Side(address, f"near-{name}", VERSIONS[version], ["down/#", *numbers])
    far = Side(broker, f"far-{name}", VERSIONS[version], ["site/#", *numbers])
    joined(near, far)
    return near, far


def both_ways(address, broker, version):
    """Topics are exchanged; QoS, retain flag, large payloads, properties pass."""
    near, far = sides(address, broker, version, "both")
    is_v5 = version == "5"
    fields = {
        "UserProperty": [("unit", "°C"), ("unit", "K")],
        "ContentType": "text/plain",
        "ResponseTopic": "answers",
        "CorrelationData": b"\x00\xff",
        "MessageExpiryInterval": 600,
    }
    for source, sent, sink, arrives in (
        (near, "up/a/b", far, "site/a/b"),
        (far, "center/a/b", near, "down/a/b"),
    ):
        large = "x" * 200_000
        for qos, payload in ((0, "zero"), (1, "one"), (2, "two"), (1, large), (1, "")):
            source.publish(sent, payload, qos, **fields)
        expected = ["zero", "one", "two", large, ""]
        wait_for(lambda s=sink, t=arrives: len(s.payloads(t)) >= 5, f"messages on {arrives}")
        expect(sink.payloads(arrives), expected, arrives)
        got = [message for message in sink.messages if message.topic == arrives]
        expect([message.qos for message in got], [0, 1, 1, 1, 1], "QoS")
        if is_v5:
            for message in got:
                properties = message.properties
                users = [pair for pair in properties.UserProperty if pair[0] == "unit"]
                expect(users, fields["UserProperty"], "user properties")
                expect(properties.ContentType, "text/plain", "content type")
                expect(properties.ResponseTopic, "answers", "response topic")
                expect(properties.CorrelationData, b"\x00\xff", "correlation data")
                left = properties.MessageExpiryInterval
                expect(500 < left <= 600, True, f"expiry {left}")
    # Retained messages: MQTT 3.1.1 passes the flag on to new subscriptions only,
    # and the bridge has subscribed already.
    near.publish("up/state", "on", retain=True)
    wait_for(lambda: far.payloads("site/state"), "the state there")
    late = Side(broker, "late", VERSIONS[version], ["site/state"])
    wait_for(lambda: late.messages, "the retained message there")
    expect(late.messages[0].retain, True, "retain flag there")
    if is_v5:
        far.publish("center/state", "on", retain=True)
        wait_for(lambda: near.payloads("down/state"), "the state here")
        late = Side(address, "late", VERSIONS[version], ["down/state"])
        wait_for(lambda: late.messages, "the retained message here")
        expect(late.messages[0].retain, True, "retain flag here")
    # What no mapping names stays where it is.
    near.publish("elsewhere", "x")
    far.publish("site/x", "x")
    near.publish("up/last", "x")
    far.publish("center/last", "x")
    wait_for(lambda: far.payloads("site/last") and near.payloads("down/last"), "the last ones")
    expect(near.payloads("down/x"), [], "nothing came back")


def compare(source, sent, sink, arrives):
    """First arrivals there have the order of first arrivals here."""
    here = list(dict.fromkeys(source.payloads(sent)))
    there = list(dict.fromkeys(sink.payloads(arrives)))
    for place, (left, right) in enumerate(zip(here, there)):
        expect(right, left, f"number {place} on {arrives}")


def flow(address, broker, version, directory):
    """Numbers flow both ways; all arrive, first arrivals in order.

    The file `flowing` says that they do, and they do until there is a file `over`.

    What the order is, readers beside the bridge say: a publisher that comes back
    may send a new message before those that waited.
    """
    directory = Path(directory)
    near, far = sides(address, broker, version, "flow", "up/n", "center/n")
    here = Side(address, "source-near", VERSIONS[version])
    there = Side(broker, "source-far", VERSIONS[version])
    mids = ([], [])
    deadline = time.monotonic() + FLOW_S
    while not (directory / "over").exists() and time.monotonic() < deadline:
        number = str(len(mids[0]))
        mids[0].append(here.client.publish("up/n", number, 1).mid)
        mids[1].append(there.client.publish("center/n", number, 1).mid)
        (directory / "flowing").touch()
        time.sleep(0.005)
    everything = {str(number) for number in range(len(mids[0]))}
    for sink, topic in ((far, "site/n"), (near, "down/n"), (near, "up/n"), (far, "center/n")):
        try:
            wait_for(
                lambda s=sink, t=topic: everything <= set(s.payloads(t)),
                f"{len(everything)} numbers on {topic}",
                ARRIVAL_S,
            )
        except AssertionError as error:
            missing = everything - set(sink.payloads(topic))
            some = sorted(missing, key=int)[:20]
            raise AssertionError(f"{error}; without {len(missing)}: {some}") from None
    for side, sent in ((here, mids[0]), (there, mids[1])):
        wait_for(lambda s=side, m=sent: set(m) <= s.finished, "all acknowledged")
    compare(near, "up/n", far, "site/n")
    compare(far, "center/n", near, "down/n")


def loop(address, broker, version):
    """Both directions on the same topics do not go in circles."""
    near = Side(address, "near", VERSIONS[version], ["loop/#"])
    far = Side(broker, "far", VERSIONS[version], ["loop/#"])

    def probe():
        near.publish("loop/probe", "near")
        far.publish("loop/probe", "far")
        time.sleep(0.1)
        return "near" in far.payloads("loop/probe") and "far" in near.payloads("loop/probe")

    wait_for(probe, "both directions")
    for number in range(20):
        near.publish("loop/near", str(number))
        far.publish("loop/far", str(number))
    # MQTT 3.1.1 cannot say whose a message is: it comes back to the gateway, once.
    back = 1 if version == "5" else 2
    expected = {
        ("far", "loop/near"): 20,
        ("far", "loop/far"): 20,
        ("near", "loop/near"): 20 * back,
        ("near", "loop/far"): 20,
    }

    def counts():
        return {
            (side, topic): len((near if side == "near" else far).payloads(topic))
            for side, topic in expected
        }

    wait_for(lambda: all(counts()[key] >= least for key, least in expected.items()), "all")
    # A circle would be fast.
    time.sleep(1)
    expect(counts(), expected, "each message as often as it should be")


def away(address, _broker, _version):
    """While the broker is dead: retained states are published here."""
    near = Side(address, "near-away", mqtt.MQTTv5)
    for number in range(100):
        near.publish(f"up/away/{number}", str(number), retain=True)
    near.close()


def back(address, broker, version):
    """The broker is back with nothing: it gets the states, and is subscribed to."""
    far = Side(broker, "far-back", VERSIONS[version], ["site/away/+"])
    wait_for(lambda: len({m.topic for m in list(far.messages)}) == 100, "100 states", ARRIVAL_S)
    near = Side(address, "near-back", VERSIONS[version], ["down/#"])

    def probe():
        far.publish("center/again", "x")
        time.sleep(0.1)
        return near.payloads("down/again")

    wait_for(probe, "messages from the broker")


if __name__ == "__main__":
    main(
        {
            function.__name__.replace("_", "-"): lambda address, _kafka, *rest, f=function: f(
                address, *rest
            )
            for function in (both_ways, flow, loop, away, back)
        }
    )
