"""Replicas from DNS: the addresses of a name (A and AAAA), or what its SRV records name, asked for again and again.

A name that does not exist has no replicas: that is what a headless service of Kubernetes without ready pods says. A resolver that
does not answer, or says SERVFAIL, has said nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from ipaddress import ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from router.fleet.discovery import Found, SourceFailed

ANSWER_SECONDS_MAX = 4.0


class DnsSource:
    def __init__(
        self,
        name: str,
        port: int | None,
        scheme: str,
        interval_seconds: float,
        nameservers: Sequence[tuple[str, int]] = (),
    ) -> None:
        """port: None where SRV records tell it. nameservers: address and port; those of the system when there are none."""
        self._name = name
        self._port = port
        self._scheme = scheme
        self._interval_seconds = interval_seconds
        self._nameservers = nameservers

    async def states(self) -> AsyncGenerator[tuple[Found, ...], None]:
        try:
            resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            raise SourceFailed(str(error)) from None
        if self._nameservers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(*one) for one in self._nameservers]
        while True:
            yield tuple(sorted(await self._look(resolver)))
            await asyncio.sleep(self._interval_seconds)

    async def _look(self, resolver: dns.asyncresolver.Resolver) -> set[Found]:
        if self._port is not None:
            return {self._found(address, self._port) for address in await self._addresses(resolver, self._name)}
        found: set[Found] = set()
        for record in await self._records(resolver, self._name, "SRV"):
            target = record.target.to_text(omit_final_dot=True)
            found |= {self._found(address, record.port) for address in await self._addresses(resolver, target)}
        return found

    async def _addresses(self, resolver: dns.asyncresolver.Resolver, name: str) -> list[str]:
        both = await asyncio.gather(*(self._records(resolver, name, kind) for kind in ("A", "AAAA")))
        return [record.address for records in both for record in records]

    async def _records(self, resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[Any]:
        """Records of the kind: dnspython makes their classes, with `address`, or `target` and `port`, as it reads them."""
        try:
            answer = await resolver.resolve(name, kind, lifetime=ANSWER_SECONDS_MAX, search=True)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise SourceFailed(f"{kind} of {name} cannot be had ({error})") from None
        return list(answer)

    def _found(self, address: str, port: int) -> Found:
        host = f"[{address}]" if ip_address(address).version == 6 else address
        return Found(f"{self._scheme}://{host}:{port}")
