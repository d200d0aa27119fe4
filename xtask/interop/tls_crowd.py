"""Crowds on a TLS listener, with Python's ssl (OpenSSL).

python tls_crowd.py silent HOST:PORT DIR    ten thousand connections say nothing
python tls_crowd.py returning HOST:PORT DIR a thousand clients come back at once

DIR is the directory of `forebay cert init --client press-1`.
"""

import asyncio
import socket
import ssl
import struct
import sys
import time

from peers import PATIENCE_S, expect

SILENT = 10_000
RETURNING = 1_000
# What the thousand may take on two cores; it is some two seconds.
RETURNING_S = 10
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


async def returning(address, secure):
    began = time.monotonic()
    clients = [again(address, secure, number) for number in range(RETURNING)]
    connected = await asyncio.gather(*clients)
    took = time.monotonic() - began
    expect(len(connected), RETURNING, "clients")
    print(f"{RETURNING} clients after {took:.2f} s")
    expect(took < RETURNING_S, True, f"back within {RETURNING_S} s")
    for _, writer in connected:
        writer.transport.abort()


def main():
    name, address, directory = sys.argv[1:4]
    host, port = address.rsplit(":", 1)
    run = {"silent": silent, "returning": returning}[name]
    asyncio.run(run((host, int(port)), context(directory)))


if __name__ == "__main__":
    main()
