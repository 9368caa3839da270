"""An API server of Kubernetes as far as EndpointSlices go, on a real socket, with its real shapes: list, watch with bookmarks,
versions that are gone, streams that end or are cut off."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PATH = "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
GONE = {
    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired", "code": 410,
    "message": "too old resource version",
}  # fmt: skip


def endpoint(address: str, pod: str, *, ready: bool | None = True) -> dict[str, Any]:
    """As the controller writes them; ready None: it does not say."""
    conditions = {} if ready is None else {"ready": ready, "serving": ready, "terminating": not ready}
    target = {"kind": "Pod", "namespace": "vllm", "name": pod, "uid": f"uid-of-{pod}"}
    return {"addresses": [address], "conditions": conditions, "nodeName": "gpu-1", "targetRef": target}


def endpoint_slice(name: str, *endpoints: dict[str, Any], port: int = 8000, kind: str = "IPv4") -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "vllm", "labels": {"kubernetes.io/service-name": "edge"}},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": "http", "protocol": "TCP", "port": port}],
    }


@dataclass
class ApiServer:
    """oldest: versions below it are gone. lists, watches: requests so far; the versions that watches began at. status: answered
    instead of anything else."""

    url: str = ""
    token: str = "a token"
    version: int = 100
    oldest: int = 0
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int | None = None
    lists: int = 0
    watches: list[int] = field(default_factory=list)
    _events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    _streams: list[asyncio.Queue[dict[str, Any] | None]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["ApiServer"]:
        server = cls()
        application = web.Application()
        application.router.add_get(PATH, server._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield server
        finally:
            server.end_streams()
            await runner.cleanup()

    def put(self, one: dict[str, Any]) -> None:
        name = one["metadata"]["name"]
        self._tell("MODIFIED" if name in self.slices else "ADDED", one)
        self.slices[name] = one

    def delete(self, name: str) -> None:
        self._tell("DELETED", self.slices.pop(name))

    def bookmark(self) -> None:
        self._tell("BOOKMARK", {"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": {}})

    def say_gone(self) -> None:
        """What a watch is told when its version has been compacted under it."""
        self.oldest = self.version
        for stream in self._streams:
            stream.put_nowait({"type": "ERROR", "object": GONE})

    def end_streams(self) -> None:
        """As the server does after timeoutSeconds."""
        for stream in self._streams:
            stream.put_nowait(None)

    def _tell(self, kind: str, one: dict[str, Any]) -> None:
        self.version += 1
        one["metadata"]["resourceVersion"] = str(self.version)
        event = {"type": kind, "object": json.loads(json.dumps(one))}
        self._events.append((self.version, event))
        for stream in self._streams:
            stream.put_nowait(event)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.status is not None:
            return web.json_response({"kind": "Status", "code": self.status}, status=self.status)
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return web.json_response({"kind": "Status", "code": 401, "reason": "Unauthorized"}, status=401)
        assert request.match_info["namespace"] == "vllm"
        assert request.query["labelSelector"] == "kubernetes.io/service-name=edge"
        if "watch" not in request.query:
            self.lists += 1
            listed = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1"}
            metadata = {"resourceVersion": str(self.version)}
            return web.json_response(listed | {"metadata": metadata, "items": list(self.slices.values())})
        since = int(request.query["resourceVersion"])
        self.watches.append(since)
        if since < self.oldest:
            return web.json_response(GONE, status=410)
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        stream: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        for version, event in self._events:
            if version > since:
                stream.put_nowait(event)
        self._streams.append(stream)
        try:
            while (event := await stream.get()) is not None:
                await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._streams.remove(stream)
        return response
