"""What happens beyond each of [mqtt.limits], with paho.

Each function needs a gateway with that limit; see xtask/src/interop/features.rs.
"""

import queue
import time
import urllib.request

import paho.mqtt.client as mqtt

import mqtt_paho
from mqtt5 import Peer
from peers import PATIENCE_S, expect, main, wait_for


def counted(http, limit):
    """How often the gateway says that a limit was reached."""
    name = f'forebay_mqtt_limited_total{{limit="{limit}"}}'
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=PATIENCE_S) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(name):
                return float(line.split()[-1])
    return 0.0


def told(http, limit):
    """The limit is counted; figures are brought up to date once a second."""
    wait_for(lambda: counted(http, limit) > 0, f"{limit} in the metrics")


def inflight(address, _http):
    """inflight = 2: the third delivery waits for an acknowledgement."""
    reader = Peer(address, "reader", manual=True)
    reader.subscribe("a")
    sender = Peer(address, "sender")
    for number in range(6):
        sender.publish("a", str(number))
    waiting = [reader.next(), reader.next()]
    reader.silent()
    for number in range(2, 6):
        done = waiting.pop(0)
        reader.client.ack(done.mid, done.qos)
        waiting.append(reader.next())
        expect(waiting[-1].payload, str(number).encode(), "the next one")
        reader.silent(0.1)


def queued(address, _http):
    """queued = 4: a reader that is behind reads the log and misses nothing."""
    reader = Peer(address, "reader", manual=True)
    reader.subscribe("a")
    sender = Peer(address, "sender")
    infos = [sender.client.publish("a", str(number), 1) for number in range(500)]
    for info in infos:
        info.wait_for_publish(PATIENCE_S)
    for number in range(500):
        message = reader.next()
        expect(message.payload, str(number).encode(), "in order")
        reader.client.ack(message.mid, message.qos)
    reader.silent(0.1)


def subscriptions(address, http):
    """subscriptions = 2: the third is refused, a known one is not."""
    for version, refused in ((mqtt_paho.V311, 0x80), (mqtt_paho.V5, 0x97)):
        peer = mqtt_paho.Peer(address, "peer", version)
        for topic, code in (("a", 1), ("b", 1), ("c", refused), ("a", 1)):
            [reason] = peer.subscribe(topic, 1)
            expect(reason.value, code, f"SUBACK for {topic}")
        peer.publish("c", "not for it")
        peer.publish("b", "for it")
        expect(peer.next().topic, "b", "what is subscribed to")
        peer.close()
    told(http, "subscriptions")


def attempt(address, name, version):
    """A client that tries to connect again until it may."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=version)
    reasons = queue.Queue()
    client.on_connect = lambda _c, _u, _f, reason, _p: reasons.put(reason.value)
    client.on_disconnect = lambda _c, _u, _f, _r, _p: reasons.put("closed")
    client.reconnect_delay_set(1, 1)
    host, port = address.rsplit(":", 1)
    client.connect(host, int(port))
    client.loop_start()
    return client, reasons


def connections_per_address(address, http):
    """connections_per_address = 3: the fourth is closed until one has left."""
    peers = [Peer(address, f"peer-{number}") for number in range(3)]
    fourth, reasons = attempt(address, "fourth", mqtt.MQTTv5)
    expect(reasons.get(timeout=PATIENCE_S), "closed", "without a word")
    told(http, "connections_per_address")
    for peer in peers:
        peer.publish("a", "undisturbed")
    peers.pop().close()
    wait_for(lambda: reasons.get(timeout=PATIENCE_S) == 0, "the fourth")
    fourth.disconnect()
    fourth.loop_stop()


def connect_rate(address, http):
    """connect_rate = 1: more CONNECT in a second are refused with 0x9F or 3."""
    for version, code in ((mqtt.MQTTv5, 0x9F), (mqtt.MQTTv311, 0x88)):
        crowd = [attempt(address, f"one-{number}", version) for number in range(5)]
        first = [reasons.get(timeout=PATIENCE_S) for _, reasons in crowd]
        # 0x88 is paho's word for return code 3, server unavailable.
        expect(set(first) <= {0, code}, True, f"answers {first}")
        expect(first.count(code) >= 3, True, f"refusals in {first}")
        for client, _ in crowd:
            client.loop_stop()
            client.disconnect()
    told(http, "connect_rate")
    patient, reasons = attempt(address, "patient", mqtt.MQTTv5)
    wait_for(lambda: reasons.get(timeout=PATIENCE_S) == 0, "a turn")
    patient.disconnect()
    patient.loop_stop()


def slowed(address, http, messages, at_least_s):
    """Publishes at once and is slowed down; nothing is lost, nobody is cut."""
    reader = Peer(address, "reader")
    reader.subscribe("a")
    sender = Peer(address, "sender")
    started = time.monotonic()
    infos = [sender.client.publish("a", message, 1) for message in messages]
    for info in infos:
        info.wait_for_publish(PATIENCE_S)
        expect(info.is_published(), True, "acknowledged")
    took = time.monotonic() - started
    expect(took >= at_least_s, True, f"{took:.2f} s are at least {at_least_s} s")
    for message in messages:
        expect(reader.next().payload, message.encode(), "in order")
    expect(sender.goodbyes.empty(), True, "the publisher is connected")
    told(http, "publish_rate")


def publish_rate(address, http):
    """publish_rate = 20: a second's worth passes, the rest at the rate."""
    slowed(address, http, [str(number) for number in range(60)], 1.9)


def publish_bytes_rate(address, http):
    """publish_bytes_rate = "10KiB/s": the same by bytes."""
    slowed(address, http, [f"{number:1000}" for number in range(30)], 1.8)


if __name__ == "__main__":
    main(
        {
            function.__name__.replace("_", "-"): lambda address, _kafka, http, f=function: f(
                address, http
            )
            for function in (
                inflight,
                queued,
                subscriptions,
                connections_per_address,
                connect_rate,
                publish_rate,
                publish_bytes_rate,
            )
        }
    )
