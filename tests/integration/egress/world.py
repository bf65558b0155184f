"""The world outside the fence: runs on the host's side of the outbound bridge, serves, and writes down all it sees.

A program of its own, given to a container as text; it imports the standard library alone. Its argument is a JSON
document in WORLD: the bridge, its address, a DNS zone and a certificate. Its output is one JSON object a line.
"""

# mypy: allow-untyped-defs, allow-untyped-calls
import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

WORLD = json.loads(os.environ["WORLD"])
ADDRESS = WORLD["address"]
ZONE = WORLD["zone"]
PAGES: dict[str, int] = {}


def tell(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def packed_name(name):
    return b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"


def answer(packet):
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += 1 + packet[at]
    name, kind = ".".join(labels).lower(), int.from_bytes(packet[at + 1 : at + 3], "big")
    tell(event="query", name=name, type=kind)
    PAGES[name] = PAGES.get(name, 0) + (kind == 1)
    entry = ZONE.get(name)
    if entry is None:
        return packet[:2] + struct.pack("!HHHHH", 0x8183, 1, 0, 0, 0) + packet[12 : at + 5]
    if entry.get("silent"):
        return None
    records, owner = [], name
    for alias in entry.get("aliases", []):
        target = packed_name(alias)
        records.append(packed_name(owner) + struct.pack("!HHIH", 5, 1, 60, len(target)) + target)
        owner = alias
    wanted = entry.get("A", []) if kind == 1 else entry.get("AAAA", []) if kind == 28 else []
    if kind == 1 and "turns" in entry:
        wanted = entry["turns"][min(PAGES[name] - 1, len(entry["turns"]) - 1)]
    for text in wanted:
        family = socket.AF_INET if kind == 1 else socket.AF_INET6
        data = socket.inet_pton(family, text)
        records.append(packed_name(owner) + struct.pack("!HHIH", kind, 1, entry.get("ttl", 60), len(data)) + data)
    return packet[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0) + packet[12 : at + 5] + b"".join(records)


class Names(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        reply = answer(data)
        if reply is not None:
            self.transport.sendto(reply, addr)


async def echo(reader, writer):
    """Read to the end, then say how much it was: works only where an end of one direction is passed on alone."""
    total = 0
    while piece := await reader.read(1 << 16):
        total += len(piece)
    writer.write(str(total).encode())
    await writer.drain()
    writer.close()
    tell(event="echo", bytes=total)


async def source(reader, writer):
    """Greet first, then send as many bytes as the client asks for."""
    writer.write(b"220 ready\r\n")
    left = int(await reader.readline() or b"0")
    while left:
        writer.write(b"x" * min(left, 1 << 16))
        left -= min(left, 1 << 16)
        await writer.drain()
    writer.close()


async def resets(reader, writer):
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def holds(reader, writer):
    writer.write(b"held")
    try:
        while await reader.read(1024):
            pass
    except ConnectionError:
        tell(event="held connection reset")
    writer.close()


async def greets(reader, writer):
    writer.write(b"hello over tls")
    await writer.drain()
    writer.close()


async def canary(reader, writer):
    tell(event="canary", peer=writer.get_extra_info("peername")[0])
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    writer.close()


def watch():
    """Write down every packet that comes from a gateway and is not for our own services or our DNS."""
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    sniffer.bind((WORLD["bridge"], 0))
    while True:
        packet, (_, protocol, kind, *_) = sniffer.recvfrom(65535)
        if kind == socket.PACKET_OUTGOING or protocol == 0x0806:
            continue
        if protocol != 0x0800:
            # Neighbour discovery of the bridge itself is the host's own.
            tell(event="packet", protocol=hex(protocol))
            continue
        length = (packet[0] & 15) * 4
        target = socket.inet_ntoa(packet[16:20])
        port = int.from_bytes(packet[length + 2 : length + 4], "big") if packet[9] in (6, 17) else 0
        if target != ADDRESS or (packet[9], port) not in {(6, p) for p in WORLD["ports"]} | {(17, 53), (6, 53)}:
            tell(event="packet", ip=packet[9], to=target, port=port)


async def main():
    while True:
        try:
            with socket.socket() as trying:
                trying.bind((ADDRESS, 0))
            break
        except OSError:
            time.sleep(0.05)
    threading.Thread(target=watch, daemon=True).start()
    with open("/tmp/pem", "w") as file:
        file.write(WORLD["pem"])
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain("/tmp/pem")
    ports = WORLD["ports"]
    for port, service in zip(ports, (echo, source, resets, holds), strict=False):
        await asyncio.start_server(service, ADDRESS, port, backlog=512)
    await asyncio.start_server(greets, ADDRESS, ports[4], ssl=tls)
    await asyncio.start_server(canary, "0.0.0.0", WORLD["canary"])
    await asyncio.start_server(canary, ADDRESS, 53)
    await asyncio.get_running_loop().create_datagram_endpoint(Names, (ADDRESS, 53))
    tell(event="ready")
    await asyncio.Event().wait()


asyncio.run(main())
