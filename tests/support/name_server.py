"""A DNS server on loopback that answers what it is told to: real packets, by dnspython's own reading and writing of them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """records: by (name, kind), in the text of a zone file. A name without any does not exist. rcode: said instead."""

    port: int = 0
    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    rcode: dns.rcode.Rcode | None = None
    asked: int = 0

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["NameServer"]:
        server = cls()
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: server, local_addr=("127.0.0.1", 0)
        )
        server.port = transport.get_extra_info("sockname")[1]
        try:
            yield server
        finally:
            transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked += 1
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        name, kind = question.question[0].name, dns.rdatatype.to_text(question.question[0].rdtype)
        told = self.records.get((name.to_text(omit_final_dot=True), kind), [])
        if self.rcode is not None:
            answer.set_rcode(self.rcode)
        elif told:
            answer.answer.append(dns.rrset.from_text(name, 1, dns.rdataclass.IN, kind, *told))
        elif not any(known == name.to_text(omit_final_dot=True) for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), address)
