"""Crowds on a TLS listener, with Python's ssl (OpenSSL).

python tls_crowd.py silent HOST:PORT DIR
    ten thousand connections say nothing
python tls_crowd.py returning HOST:PORT DIR WORK KAFKA
    a thousand clients publish, the node is killed and started again by whoever
    sees the file `publishing` in WORK and makes the file `restarted` there; all
    come back, and what was acknowledged is in the log

DIR is the directory of `forebay cert init --client press-1`.
"""

import asyncio
import os
import pathlib
import socket
import ssl
import struct
import sys
import time

import confluent_kafka

from peers import PATIENCE_S, expect, wait_for

SILENT = 10_000
RETURNING = 1_000
# What the thousand may take on two cores.
RETURNING_S = 10
# What each publishes after it is back.
AFTERWARDS = 3
TOPIC = b"crowd/reading"
# Sockets that are opened at once; the kernel's queue has about as many places.
AT_ONCE = 500


def context(directory):
    made = ssl.create_default_context(cafile=f"{directory}/ca.crt")
    made.load_cert_chain(f"{directory}/press-1.crt", f"{directory}/press-1.key")
    return made


def connect_packet(client_id):
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(client_id)) + client_id
    return bytes([0x10, len(body)]) + body


PUBLISH = b"\x32\x09\x00\x03a/b\x00\x01xy"
PUBACK = b"\x40\x02\x00\x01"


async def client(address, secure, number):
    """Connects, publishes with QoS 1 and waits for the acknowledgement."""
    host, port = address
    reader, writer = await asyncio.open_connection(
        host, port, ssl=secure, server_hostname="localhost"
    )
    writer.write(connect_packet(f"client-{number}".encode()))
    expect(await reader.readexactly(4), b"\x20\x02\x00\x00", "CONNACK")
    writer.write(PUBLISH)
    expect(await reader.readexactly(4), PUBACK, "PUBACK")
    return reader, writer


async def again(address, secure, number):
    """The same, until the node is there."""
    while True:
        try:
            return await client(address, secure, number)
        except (OSError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.1)


async def silent(address, secure):
    _, open_before = await client(address, secure, 0)
    crowd = []
    for first in range(0, SILENT, AT_ONCE):
        for _ in range(AT_ONCE):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(address)
            crowd.append(one)
        await asyncio.sleep(0)
        if first % 2_000 == 0:
            began = time.monotonic()
            # On a machine that is busy with other things a client may be as
            # slow as the silent ones, and then tries again like any other.
            _, writer = await asyncio.wait_for(again(address, secure, 1 + first), PATIENCE_S)
            writer.close()
            print(f"behind {len(crowd)} silent ones: {time.monotonic() - began:.2f} s")
    open_before.write(PUBLISH.replace(b"\x00\x01xy", b"\x00\x02xy"))
    for one in crowd:
        one.close()


class Returning:
    """A client that publishes one reading after another, and comes back.

    A reading that was not acknowledged is sent again, so it may be in the log
    twice; one that was acknowledged has to be there.
    """

    def __init__(self, number):
        self.number = number
        self.acknowledged = 0
        self.left = None
        self.back_at = None

    async def live(self, address, secure, is_over):
        while not is_over():
            try:
                await self.once(address, secure, is_over)
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)

    async def once(self, address, secure, is_over):
        # What the dead node has acknowledged may still be in a socket.
        is_of_new_node = self.left is not None
        host, port = address
        reader, writer = await asyncio.open_connection(
            host, port, ssl=secure, server_hostname="localhost"
        )
        try:
            writer.write(connect_packet(f"client-{self.number}".encode()))
            expect(await reader.readexactly(4), b"\x20\x02\x00\x00", "CONNACK")
            while not is_over():
                reading = f"{self.number} {self.acknowledged + 1}".encode()
                body = struct.pack("!H", len(TOPIC)) + TOPIC + b"\x00\x01" + reading
                writer.write(bytes([0x32, len(body)]) + body)
                expect(await reader.readexactly(4), PUBACK, "PUBACK")
                self.acknowledged += 1
                if is_of_new_node and self.back_at is None:
                    self.back_at = time.time()
                    self.left = self.acknowledged
                await asyncio.sleep(0.5)
        finally:
            writer.transport.abort()


async def returning(address, secure, work, kafka):
    work = pathlib.Path(work)
    clients = [Returning(number) for number in range(RETURNING)]
    is_over = []
    lives = [
        asyncio.create_task(one.live(address, secure, lambda: bool(is_over))) for one in clients
    ]

    async def until(condition, what):
        deadline = time.monotonic() + 2 * PATIENCE_S
        while not condition():
            expect(time.monotonic() < deadline, True, f"in time: {what}")
            await asyncio.sleep(0.05)

    await until(lambda: all(one.acknowledged >= 2 for one in clients), "all publish")
    # From here on an acknowledgement may still be of the node that is killed.
    (work / "publishing").touch()
    await until((work / "killed").exists, "the node is killed")
    for one in clients:
        one.left = one.acknowledged
    await until((work / "restarted").exists, "the node is started")
    ready_at = os.stat(work / "restarted").st_mtime
    await until(lambda: all(one.back_at for one in clients), "all are back")
    took = max(one.back_at for one in clients) - ready_at
    await until(
        lambda: all(one.acknowledged >= one.left + AFTERWARDS for one in clients), "all go on"
    )
    is_over.append(True)
    await asyncio.gather(*lives)
    count = sum(one.acknowledged for one in clients)
    print(f"{RETURNING} clients are back {took:.2f} s after the node")
    expect(took < RETURNING_S, True, f"back within {RETURNING_S} s")
    found = readings(kafka)
    lost = [
        (one.number, number)
        for one in clients
        for number in range(1, one.acknowledged + 1)
        if (one.number, number) not in found
    ]
    expect(lost, [], "acknowledged and not in the log")
    print(f"{count} readings were acknowledged, and all are in the log")


def readings(kafka):
    """Client and number of every reading in the log."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka, "group.id": "none"})
    partitions = consumer.list_topics("readings", PATIENCE_S).topics["readings"].partitions
    found = set()
    for partition in partitions:
        at = confluent_kafka.TopicPartition("readings", partition, confluent_kafka.OFFSET_BEGINNING)
        consumer.assign([at])
        _, end = consumer.get_watermark_offsets(at, PATIENCE_S)
        position = 0
        while position < end:
            message = wait_for(lambda: consumer.poll(0.2), "a record")
            expect(message.error(), None, "the error of a record")
            position = message.offset() + 1
            number, reading = message.value().split()
            found.add((int(number), int(reading)))
    consumer.close()
    return found


def main():
    name, address, directory, *more = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    run = {"silent": silent, "returning": returning}[name]
    asyncio.run(run((host, int(port)), context(directory), *more))


if __name__ == "__main__":
    main()
