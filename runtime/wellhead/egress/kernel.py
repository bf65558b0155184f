"""The kernel's part of a gateway: what it is told, the rules it loads, and the privileges it gives up.

Standard library alone, here as in every file of the gateway.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from wellhead.egress.policy import Policy

#: The user it becomes; neither root's nor the connector's.
UID = 65531
SPLICE_PORT = 15001
DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the host tells a gateway, in one read-only file.

    Attributes:
        slot: the run's network.
        address: the gateway's own in it.
        pool: the part of the slot that stands for names.
        resolver: the DNS server to ask.
        audit_max_bytes: a gateway that has written so much closes everything.
        policy: what the run may reach.
    """

    slot: IPv4Network
    address: IPv4Address
    pool: IPv4Network
    resolver: IPv4Address
    audit_max_bytes: int
    policy: Policy

    def to_json(self) -> str:
        """Return the document `from_json` reads."""
        return json.dumps(
            {
                "slot": str(self.slot),
                "address": str(self.address),
                "pool": str(self.pool),
                "resolver": str(self.resolver),
                "audit_max_bytes": self.audit_max_bytes,
                "policy": self.policy.to_json(),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Configuration:
        """Read what `to_json` wrote."""
        document = json.loads(text)
        return cls(
            slot=IPv4Network(document["slot"]),
            address=IPv4Address(document["address"]),
            pool=IPv4Network(document["pool"]),
            resolver=IPv4Address(document["resolver"]),
            audit_max_bytes=int(document["audit_max_bytes"]),
            policy=Policy.from_json(document["policy"]),
        )


def rules(configuration: Configuration, inside: str) -> str:
    """Return the nftables rules; ``inside`` is the interface on the run's network.

    The chain ``c_out`` is the second layer below the judgement in Python: no mistake above it reaches a private
    address that no grant names.
    """
    slot, pool, own = configuration.slot, configuration.pool, configuration.address
    grants = "\n".join(
        f"    ip daddr {grant.network} tcp dport {{ {', '.join(map(str, grant.ports))} }} accept"
        for grant in configuration.policy.grants
        if grant.network.version == 4 and grant.ports
    )
    return f"""
table inet wellhead {{
  chain c_pre {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{inside}" ip saddr {slot} ip daddr {pool} meta l4proto tcp redirect to :{SPLICE_PORT}
  }}
  chain c_in {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    iifname "{inside}" ip saddr {slot} ip daddr {own} udp dport {DNS_PORT} accept
    iifname "{inside}" ip saddr {slot} ip daddr {own} tcp dport {DNS_PORT} accept
    iifname "{inside}" ip saddr {slot} ct status dnat tcp dport {SPLICE_PORT} ct original ip daddr {pool} accept
    iifname "{inside}" meta l4proto tcp counter reject with tcp reset
    iifname "{inside}" meta l4proto udp counter reject
    counter drop
  }}
  chain c_fwd {{
    type filter hook forward priority filter; policy drop;
    counter drop
  }}
  chain c_out {{
    type filter hook output priority filter; policy drop;
    oif lo accept
    ct direction reply accept
    ct state established accept
    ip daddr {configuration.resolver} meta l4proto {{ tcp, udp }} th dport {DNS_PORT} accept
{grants}
    ip daddr {{ 0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 168.63.129.16, 169.254.0.0/16, 172.16.0.0/12,
      192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16, 198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24,
      224.0.0.0/3 }} counter reject with icmp admin-prohibited
    meta nfproto ipv4 meta l4proto tcp accept
    counter drop
  }}
}}
"""


def set_up(configuration: Configuration) -> None:
    """Take the pool's addresses, load the rules and give up every privilege.

    Raises:
        OSError, CalledProcessError: the kernel refused; the gateway must not start.
    """
    inside = _interface_of(configuration.address)
    # AnyIP: the kernel answers for the whole pool without an address on any interface.
    subprocess.run(["ip", "route", "add", "local", str(configuration.pool), "dev", "lo"], check=True)
    subprocess.run(["nft", "-f", "-"], input=rules(configuration, inside).encode(), check=True)


def drop_privileges() -> None:
    """Become a user that owns nothing; root's capabilities go with it.

    Raises:
        PermissionError: some capability is left.
    """
    os.setgroups([])
    os.setresgid(UID, UID, UID)
    os.setresuid(UID, UID, UID)
    with open("/proc/self/status") as status:
        left = {line.split()[1] for line in status if line.startswith(("CapEff:", "CapPrm:"))}
    if left != {"0" * 16}:
        raise PermissionError(f"capabilities are left: {', '.join(sorted(left))}")


def _interface_of(address: IPv4Address) -> str:
    get_address = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asking, get_address, struct.pack("256s", name.encode()))
            except OSError:
                continue  # an interface without an IPv4 address
            if answer[20:24] == address.packed:
                return name
    raise OSError(f"no interface has {address}")
