"""A Modbus device by pymodbus, for the tests. Arguments: tcp or rtu-tcp and a port, or rtu and a serial device.

Unit 7. Holding register n holds 7000 + n, input register n holds 9000 + n (n below 200), coil n is on where n is a
multiple of 3, discrete input n where it is one of 2; beyond is exception 2. Another unit does not answer.
"""

import asyncio
import logging
import sys

# It says at length that its next version will do this in another way.
logging.disable(logging.WARNING)

from pymodbus import FramerType
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

COUNT = 200


def block(values):
    # Its data blocks count from 1.
    return ModbusSequentialDataBlock(1, list(values))


def context():
    unit = ModbusDeviceContext(
        co=block(n % 3 == 0 for n in range(COUNT)),
        di=block(n % 2 == 0 for n in range(COUNT)),
        hr=block(7000 + n for n in range(COUNT)),
        ir=block(9000 + n for n in range(COUNT)),
    )
    return ModbusServerContext(devices={7: unit}, single=False)


async def main(kind, where):
    if kind == "rtu":
        server = ModbusSerialServer(context(), framer=FramerType.RTU, port=where, baudrate=19200, ignore_missing_devices=True)
    else:
        framer = FramerType.SOCKET if kind == "tcp" else FramerType.RTU
        address = ("127.0.0.1", int(where))
        server = ModbusTcpServer(context(), framer=framer, address=address, ignore_missing_devices=True)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], sys.argv[2]))
