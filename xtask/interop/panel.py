"""A client that commands writable tags of the device `device`."""

import json
import time

from mqtt5 import Peer
from peers import expect


class Panel:
    """A client that commands."""

    def __init__(self, address, name):
        self.peer = Peer(address, name)
        self.peer.subscribe("device/+/set/result")
        self.peer.subscribe(f"answers/{name}")
        self.name = name
        self.count = 0

    def ask(self, tag, value, retain=False, expires_in=20, identity=None):
        """Publishes a command and returns the result and the direct answer."""
        self.count += 1
        identity = identity or f"{self.name}-{self.count}"
        body = {"value": value, "id": identity, "expires": int((time.time() + expires_in) * 1000)}
        self.peer.publish(
            f"device/{tag}/set",
            json.dumps(body),
            retain=retain,
            ResponseTopic=f"answers/{self.name}",
            CorrelationData=identity.encode(),
        )
        both = {}
        for _ in range(2):
            message = self.peer.next(f"the result of {body}")
            expect(message.properties.CorrelationData, identity.encode(), "correlation data")
            both[message.topic] = json.loads(message.payload)
        result = both[f"device/{tag}/set/result"]
        expect(both[f"answers/{self.name}"], result, "the direct answer")
        expect(result["id"], identity, "the id")
        return result

    def refused(self, reason, *command, **how):
        result = self.ask(*command, **how)
        expect((result["outcome"], result.get("reason")), ("refused", reason), f"{command} {how}")
