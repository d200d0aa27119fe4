"""A client of MQTT 5 by paho, for the peer scripts."""

import queue

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from peers import PATIENCE_S, expect


class Peer:
    """A client of MQTT 5 that keeps what it receives."""

    def __init__(self, address, name, clean=True, will=None, manual=False, **connect):
        self.received = queue.Queue()
        self.connack = queue.Queue()
        self.goodbyes = queue.Queue()
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=mqtt.MQTTv5,
            manual_ack=manual,
        )
        self.client.on_connect = lambda _c, _u, flags, reason, properties: self.connack.put(
            (flags.session_present, reason, properties)
        )
        self.client.on_disconnect = lambda _c, _u, _f, reason, properties: self.goodbyes.put(
            (reason, properties)
        )
        self.client.on_message = lambda _c, _u, message: self.received.put(message)
        if will:
            topic, payload, delay = will
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = delay
            self.client.will_set(topic, payload, 1, False, properties)
        properties = Properties(PacketTypes.CONNECT)
        for key, value in connect.items():
            setattr(properties, key, value)
        host, port = address.rsplit(":", 1)
        self.client.connect(
            host, int(port), keepalive=30, clean_start=clean, properties=properties
        )
        self.client.loop_start()
        self.present, reason, self.properties = self.connack.get(timeout=PATIENCE_S)
        expect(reason.value, 0, f"CONNACK of {name}")

    def subscribe(self, topic, qos=1, identifier=None, **options):
        """Subscribes, and waits for the SUBACK."""
        done = queue.Queue()
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: done.put(reasons)
        properties = None
        if identifier:
            properties = Properties(PacketTypes.SUBSCRIBE)
            properties.SubscriptionIdentifier = identifier
        self.client.subscribe(
            topic, options=SubscribeOptions(qos=qos, **options), properties=properties
        )
        return [reason.value for reason in done.get(timeout=PATIENCE_S)]

    def publish(self, topic, payload, qos=1, retain=False, **fields):
        """Publishes, and waits until the exchange is finished."""
        properties = Properties(PacketTypes.PUBLISH)
        for key, value in fields.items():
            setattr(properties, key, value)
        info = self.client.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(PATIENCE_S)
        expect(info.is_published(), True, f"publish to {topic}")

    def next(self, what="a message"):
        """The next message."""
        try:
            return self.received.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"waited {PATIENCE_S} s for {what}") from None

    def silent(self, seconds=0.5):
        """Nothing more comes."""
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
