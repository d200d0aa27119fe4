"""A Modbus device by pymodbus, for the interop scenarios.

Usage: modbus_pymodbus.py tcp|rtu-over-tcp|rtu [PORT_OR_DEVICE]

Prints one line of JSON: where it listens and which tags it has with their
values, encoded here by struct, independently of the program under test. It
serves until its standard input is closed.
"""

import asyncio
import json
import struct
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

REGISTERS = 400
ORDERS = {
    # Where the big-endian bytes of a number lie, for 2, 4 and 8 bytes.
    "ABCD": {2: "01", 4: "0123", 8: "01234567"},
    "DCBA": {2: "10", 4: "3210", 8: "76543210"},
    "BADC": {2: "10", 4: "1032", 8: "10325476"},
    "CDAB": {2: "01", 4: "2301", 8: "67452301"},
}
NUMBERS = [
    ("INT16", ">h", -1234),
    ("UINT16", ">H", 54321),
    ("INT32", ">i", -123456789),
    ("UINT32", ">I", 3123456789),
    ("INT64", ">q", -1234567890123456),
    ("UINT64", ">Q", 12345678901234567890),
    ("FLOAT16", ">e", -1.5),
    ("FLOAT32", ">f", 21.3),
    ("FLOAT64", ">d", -273.15),
]


def device():
    """The registers, and the tags that lie in them."""
    registers = [0] * REGISTERS
    tags = []
    at = 0
    for kind, form, value in NUMBERS:
        big_endian = struct.pack(form, value)
        for order, layouts in ORDERS.items():
            wire = bytes(big_endian[int(i)] for i in layouts[len(big_endian)])
            words = struct.unpack(f">{len(wire) // 2}H", wire)
            registers[at : at + len(words)] = words
            tags.append(
                {"name": f"{kind}-{order}", "address": at, "type": kind, "byte_order": order, "value": value}
            )
            # A hole behind each number, so that requests run over it.
            at += len(words) + 1
    for order, swap in (("ABCD", False), ("BADC", True)):
        text = "Pumpe 7 Süd".encode().ljust(14, b"\0")
        words = struct.unpack("<7H" if swap else ">7H", text)
        registers[at : at + 7] = words
        tags.append(
            {"name": f"STRING-{order}", "address": at, "type": "STRING", "length": 7, "byte_order": order, "value": "Pumpe 7 Süd"}
        )
        at += 8
    registers[at] = 0xA581
    for bit in (0, 1, 7, 15):
        tags.append({"name": f"BIT-{bit}", "address": at, "type": "BIT", "bit": bit, "value": bool(0xA581 >> bit & 1)})
    for kind, value in (("INT8H", -91), ("UINT8H", 165), ("INT8L", -127), ("UINT8L", 129)):
        tags.append({"name": kind, "address": at, "type": kind, "value": value})
    tags.append({"name": "scaled", "address": 0, "type": "INT16", "scale": 0.1, "offset": 5, "value": -118.4})
    for bit in range(20):
        tags.append({"name": f"coil-{bit}", "register": "coil", "address": bit * 3, "value": bit % 3 == 0})
        tags.append({"name": f"discrete-{bit}", "register": "discrete", "address": bit, "value": bit % 2 == 1})
    for number in range(130):
        tags.append({"name": f"input-{number}", "register": "input", "address": number, "type": "UINT16", "value": number * 7})
    tags.append({"name": "reference", "address": "30101", "type": "UINT16", "value": 700})
    tags.append({"name": "missing", "register": "input", "address": 5000, "type": "UINT16", "status": "illegal-data-address"})
    coils = [False] * 64
    for bit in range(20):
        coils[bit * 3] = bit % 3 == 0
    simulated = SimDevice(
        1,
        simdata=(
            [SimData(0, values=coils, datatype=DataType.BITS)],
            [SimData(0, values=[bit % 2 == 1 for bit in range(64)], datatype=DataType.BITS)],
            [SimData(0, values=registers, datatype=DataType.REGISTERS)],
            [SimData(0, values=[number * 7 for number in range(200)], datatype=DataType.REGISTERS)],
        ),
    )
    return simulated, tags


async def main():
    mode = sys.argv[1]
    simulated, tags = device()
    if mode == "rtu":
        server = ModbusSerialServer(simulated, framer=FramerType.RTU, port=sys.argv[2], baudrate=115200)
        where = sys.argv[2]
        started = await server.listen()
    else:
        framer = FramerType.RTU if mode == "rtu-over-tcp" else FramerType.SOCKET
        port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
        server = ModbusTcpServer(simulated, framer=framer, address=("127.0.0.1", port))
        started = await server.listen()
        where = server.transport.sockets[0].getsockname()[1]
    if started is False:
        sys.exit(f"cannot listen on {sys.argv[2:]}")
    print(json.dumps({"where": where, "tags": tags}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
