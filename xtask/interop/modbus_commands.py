"""Commands to a Modbus device: paho asks, pymodbus looks what the device has.

Arguments after the two of every script: the device's port and its framing. The
gateway's tags are those of commands() in modbus.rs; the client `scada` may command.
"""

import json
import struct

from confluent_kafka import Consumer, TopicPartition
from pymodbus import FramerType
from pymodbus.client import ModbusTcpClient

from panel import Panel
from peers import expect, main, wait_for

SETPOINT = 380
VALVE = 60
BYTES = 390


class Device:
    """A second master at the device."""

    def __init__(self, port, mode):
        framer = FramerType.RTU if mode == "rtu-over-tcp" else FramerType.SOCKET
        self.client = ModbusTcpClient("127.0.0.1", port=int(port), framer=framer)
        expect(self.client.connect(), True, "connection to the device")

    def registers(self, address, count):
        answer = self.client.read_holding_registers(address, count=count, device_id=1)
        expect(answer.isError(), False, f"{answer}")
        return answer.registers

    def setpoint(self):
        """The number, word-swapped: CDAB."""
        low, high = self.registers(SETPOINT, 2)
        return struct.unpack(">f", struct.pack(">HH", high, low))[0]

    def valve(self):
        return self.client.read_coils(VALVE, count=1, device_id=1).bits[0]


def write(mqtt, kafka, port, mode):
    """Allowed commands reach their register and no other; others nothing."""
    device = Device(port, mode)
    panel = Panel(mqtt, "scada")
    done = panel.ask("setpoint", 41.5)
    expect((done["outcome"], done["value"]), ("done", 41.5), "the setpoint's result")
    expect(device.setpoint(), 41.5, "the setpoint at the device")
    expect(panel.ask("valve", True)["value"], True, "the valve's result")
    expect(device.valve(), True, "the valve at the device")
    expect(panel.ask("high", 18)["value"], 18, "the high byte's result")
    expect(panel.ask("low", 52)["value"], 52, "the low byte's result")
    expect(device.registers(BYTES, 1), [0x1234], "both bytes at the device")

    panel.refused("out-of-range", "setpoint", 100.5)
    panel.refused("wrong-type", "setpoint", "hot")
    panel.refused("expired", "setpoint", 1.0, expires_in=-1)
    panel.refused("expires-too-far", "setpoint", 1.0, expires_in=3600)
    panel.refused("retained", "setpoint", 1.0, retain=True)
    panel.refused("duplicate-id", "setpoint", 1.0, identity="scada-1")
    stranger = Panel(mqtt, "stranger")
    stranger.refused("client-not-allowed", "setpoint", 1.0)
    expect(device.setpoint(), 41.5, "the setpoint after refusals")

    events = audit(kafka)
    setpoint = [event for event in events if event["path"] == "device/setpoint"]
    expect([e["event"] for e in setpoint[:2]], ["intent", "outcome"], "the first records")
    expect({e["client"] for e in setpoint}, {"scada", "stranger"}, "who asked")
    expect(sum(e["event"] == "refused" for e in setpoint), 7, "refusals that are written down")


def audit(kafka):
    """The records of the topic `commands`."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "audit"})
    place = TopicPartition("commands", 0, 0)
    _, end = consumer.get_watermark_offsets(place, timeout=10)
    consumer.assign([place])
    records = []

    def read():
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            records.append(json.loads(message.value()))
        return len(records) >= end

    wait_for(read, "the audit")
    consumer.close()
    return records


def overwrite(_mqtt, _kafka, port, mode):
    """Somebody else writes to the device."""
    client = Device(port, mode).client
    answer = client.write_registers(SETPOINT, [0, 0], device_id=1)
    expect(answer.isError(), False, f"{answer}")


def untouched(_mqtt, _kafka, port, mode):
    """What somebody else wrote is still there."""
    expect(Device(port, mode).setpoint(), 0.0, "the setpoint after a restart")


main({"write": write, "overwrite": overwrite, "untouched": untouched})
