"""Each feature of MQTT 5 that the server has, with paho and the mosquitto tools.

The gateway has a route `memory/#` with durability = "memory".
"""

import json
import queue
import subprocess
import threading
import time

from mqtt5 import Peer
from peers import PATIENCE_S, expect, main, wait_for


def no_local(address):
    """A client does not get its own messages from a no-local subscription."""
    peer, other = Peer(address, "peer"), Peer(address, "other")
    peer.subscribe("a/#", noLocal=True)
    other.subscribe("a/#")
    peer.publish("a/1", "own")
    other.publish("a/2", "theirs")
    expect(peer.next().topic, "a/2", "no local")
    expect([other.next().topic, other.next().topic], ["a/1", "a/2"], "others")
    peer.silent()


def retain_options(address):
    """Retain handling 0, 1, 2 and retain as published."""
    publisher = Peer(address, "publisher")
    publisher.publish("kept", "1", retain=True)
    for handling, first, second in ((0, True, True), (1, True, False), (2, False, False)):
        peer = Peer(address, f"peer-{handling}")
        for comes in (first, second):
            peer.subscribe("kept", retainHandling=handling, retainAsPublished=True)
            if comes:
                expect(peer.next().retain, True, "retain flag")
            else:
                peer.silent(0.2)
        publisher.publish("kept", "2", retain=True)
        expect(peer.next().retain, True, "retain as published")
        peer.close()


def subscription_identifiers(address):
    """Overlapping subscriptions deliver once with all identifiers."""
    peer = Peer(address, "peer")
    peer.subscribe("a/#", 0, identifier=3)
    peer.subscribe("a/b", 1, identifier=9)
    peer.publish("a/b", "x")
    message = peer.next()
    expect(message.qos, 1, "highest QoS")
    expect(sorted(message.properties.SubscriptionIdentifier), [3, 9], "identifiers")
    peer.silent()


def shared(address):
    """Two mosquitto_sub and a paho member share; the acknowledged leave nothing."""
    host, port = address.rsplit(":", 1)
    tools = [
        subprocess.Popen(
            ["mosquitto_sub", "-V", "mqttv5", "-h", host, "-p", port, "-q", "1"]
            + ["-t", "$share/crew/job/#", "-t", "ready", "-F", "%p"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        lines = queue.Queue()
        for index, tool in enumerate(tools):
            threading.Thread(
                target=lambda i=index, t=tool: [lines.put((i, x.strip())) for x in t.stdout],
                daemon=True,
            ).start()
        peer = Peer(address, "peer")
        peer.subscribe("$share/crew/job/#")
        ready = set()
        while len(ready) < 2:
            peer.publish("ready", "ready")
            try:
                ready.add(lines.get(timeout=0.2)[0])
            except queue.Empty:
                pass
        time.sleep(0.2)
        while not lines.empty():
            lines.get()
        for number in range(60):
            peer.publish("job/x", str(number))
        seen = {"paho": [], 0: [], 1: []}
        wait_for(
            lambda: lines.qsize() + peer.received.qsize() >= 60, "60 messages in the group"
        )
        while not lines.empty():
            index, payload = lines.get()
            seen[index].append(payload)
        while not peer.received.empty():
            seen["paho"].append(peer.received.get().payload.decode())
        everything = sorted(int(payload) for got in seen.values() for payload in got)
        expect(everything, list(range(60)), "each message once")
        for name, got in seen.items():
            if len(got) < 5:
                raise AssertionError(f"{name} got {len(got)} of 60")
        peer.silent()
    finally:
        for tool in tools:
            tool.kill()


def shared_takeover(address):
    """What a member did not acknowledge goes to another; the group goes on."""
    first = Peer(address, "first", clean=False, manual=True, SessionExpiryInterval=600)
    first.subscribe("$share/crew/job")
    publisher = Peer(address, "publisher")
    publisher.publish("job", "1")
    first.next()
    first.break_off()
    publisher.publish("job", "2")
    second = Peer(address, "second")
    second.subscribe("$share/crew/job")
    expect([second.next().payload, second.next().payload], [b"1", b"2"], "taken over")
    second.silent()


def topic_alias(address):
    """Aliases both ways: paho sends one, and gets one that it asked for."""
    reader = Peer(address, "reader", TopicAliasMaximum=4)
    reader.subscribe("plant/#", 0)
    sender = Peer(address, "sender")
    expect(sender.properties.TopicAliasMaximum > 0, True, "announced")
    sender.publish("plant/press/force", "1", 0, TopicAlias=2)
    sender.publish("", "2", 0, TopicAlias=2)
    first, second = reader.next(), reader.next()
    expect(first.topic, "plant/press/force", "first by name")
    expect((second.topic, second.payload), ("", b"2"), "second by alias")
    expect(first.properties.TopicAlias, second.properties.TopicAlias, "alias")


def will_delay(address):
    """A delayed will is published, and not when the session is resumed."""
    watcher = Peer(address, "watcher")
    watcher.subscribe("state/#")
    for resumes in (False, True):
        peer = Peer(
            address, "peer", clean=False, will=("state/gone", "x", 1), SessionExpiryInterval=60
        )
        peer.break_off()
        if resumes:
            Peer(address, "peer", clean=False, SessionExpiryInterval=60)
            watcher.silent(3)
        else:
            expect(watcher.next("the will").topic, "state/gone", "will")


def expiry(address):
    """The expiry interval counts down, and what is over is not delivered."""
    reader = Peer(address, "reader", clean=False, SessionExpiryInterval=60)
    reader.subscribe("a")
    reader.close()
    sender = Peer(address, "sender")
    sender.publish("a", "short", MessageExpiryInterval=1)
    sender.publish("a", "long", MessageExpiryInterval=60)
    time.sleep(2.1)
    reader = Peer(address, "reader", clean=False, SessionExpiryInterval=60)
    expect(reader.present, True, "session")
    message = reader.next()
    expect(message.payload, b"long", "what is left")
    left = message.properties.MessageExpiryInterval
    expect(50 <= left <= 58, True, f"{left} s left")
    reader.silent()


def request_response(address):
    """mosquitto_rr asks on a memory topic, paho answers."""
    responder = Peer(address, "responder")
    responder.subscribe("memory/request")
    host, port = address.rsplit(":", 1)
    for number in range(5):
        asking = subprocess.Popen(
            ["mosquitto_rr", "-V", "mqttv5", "-h", host, "-p", port, "-q", "1", "-W", "20"]
            + ["-t", "memory/request", "-e", f"memory/reply/{number}", "-m", str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        request = responder.next("the request")
        responder.publish(
            request.properties.ResponseTopic,
            str(int(request.payload) * 2),
            **(
                {"CorrelationData": request.properties.CorrelationData}
                if hasattr(request.properties, "CorrelationData")
                else {}
            ),
        )
        out, _ = asking.communicate(timeout=PATIENCE_S)
        expect(out.strip(), str(number * 2), "reply")


def user_properties(address):
    """User properties, content type and correlation data pass through the log."""
    peer = Peer(address, "peer")
    peer.subscribe("a")
    peer.publish(
        "a",
        json.dumps({"v": 1}),
        UserProperty=[("unit", "°C"), ("unit", "K")],
        ContentType="application/json",
        PayloadFormatIndicator=1,
        ResponseTopic="b",
        CorrelationData=b"\x00\xff",
    )
    got = peer.next().properties
    expect(got.UserProperty, [("unit", "°C"), ("unit", "K")], "user properties")
    expect(got.ContentType, "application/json", "content type")
    expect(got.PayloadFormatIndicator, 1, "format")
    expect((got.ResponseTopic, got.CorrelationData), ("b", b"\x00\xff"), "response")


def disconnect_reasons(address):
    """Take-over 0x8E, a packet too large 0x95, and too large a message skipped."""
    first = Peer(address, "same")
    Peer(address, "same")
    expect(first.goodbyes.get(timeout=PATIENCE_S)[0].value, 0x8E, "taken over")
    first.client.loop_stop()
    large = Peer(address, "large")
    large.client.publish("a", b"x" * (int(large.properties.MaximumPacketSize) + 1), 1)
    reason, properties = large.goodbyes.get(timeout=PATIENCE_S)
    large.client.loop_stop()
    expect(reason.value, 0x95, "packet too large")
    expect(bool(properties.ReasonString), True, "reason string")
    small = Peer(address, "small", MaximumPacketSize=200)
    small.subscribe("a")
    sender = Peer(address, "sender")
    sender.publish("a", b"x" * 500)
    sender.publish("a", b"fits")
    expect(small.next().payload, b"fits", "what fits")


def assigned_client_id(address):
    """A client without identifier is told its own; response information too."""
    peer = Peer(address, "", RequestResponseInformation=1)
    name = peer.properties.AssignedClientIdentifier
    expect(len(name) > 8, True, name)
    expect(peer.properties.ResponseInformation, f"response/{name}", "response information")


if __name__ == "__main__":
    main(
        {
            function.__name__.replace("_", "-"): lambda address, _kafka, f=function: f(address)
            for function in (
                no_local,
                retain_options,
                subscription_identifiers,
                shared,
                shared_takeover,
                topic_alias,
                will_delay,
                expiry,
                request_response,
                user_properties,
                disconnect_reasons,
                assigned_client_id,
            )
        }
    )
