"""Replicas from Kubernetes: the ready endpoints of a service, by its EndpointSlices, listed once and then watched.

The protocol is the API server's: list, then watch from the list's resourceVersion; when the stream ends, watch again from the
last version seen; when that version is gone (410), list again. Bookmarks only move the version.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from router.fleet.discovery import Found, SourceFailed

# Where the kubelet puts what a pod needs to ask the API server.
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER_HOST, SERVER_PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
# The server ends a watch after this; between its lines there may be silence for as long, but not for much longer.
WATCH_SECONDS, SILENCE_SECONDS_MAX = 300, 330.0
ANSWER_SECONDS_MAX = 10.0
# Before watching or listing again: a server that ends every stream at once is not asked in a loop. Nothing is missed meanwhile.
PAUSE_SECONDS = 0.2
GONE = 410


@dataclass(frozen=True, slots=True)
class ServiceName:
    """port: a number, or a name among the slice's ports; None: its only one. server: None inside of the cluster. token_file,
    ca_file: those of the pod's service account when None; files that are not there are done without."""

    service: str
    namespace: str | None = None
    port: int | str | None = None
    scheme: str = "http"
    server: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None


class KubernetesSource:
    def __init__(self, name: ServiceName, environ: Mapping[str, str] = os.environ) -> None:
        self._name = name
        self._environ = environ

    async def states(self) -> AsyncGenerator[tuple[Found, ...], None]:
        name = self._name
        namespace = name.namespace or await asyncio.to_thread(_read, ACCOUNT / "namespace") or "default"
        path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        selector = {"labelSelector": f"kubernetes.io/service-name={name.service}"}
        async with httpx.AsyncClient(
            base_url=self._server(), verify=await asyncio.to_thread(self._trusted), trust_env=False,
            timeout=httpx.Timeout(ANSWER_SECONDS_MAX, read=SILENCE_SECONDS_MAX),
        ) as client:  # fmt: skip
            try:
                while True:  # again when the version is gone
                    version, slices = await self._list(client, path, selector)
                    yield self._found(slices)
                    async for changed in self._watch(client, path, selector, version, slices):
                        yield self._found(changed)
                    await asyncio.sleep(PAUSE_SECONDS)
            except httpx.HTTPError as error:
                raise SourceFailed(f"the API server cannot be asked ({type(error).__name__}: {error})") from None

    async def _list(
        self, client: httpx.AsyncClient, path: str, selector: Mapping[str, str]
    ) -> tuple[str, dict[str, Any]]:
        answer = await client.get(path, params=selector, headers=await self._headers(), timeout=ANSWER_SECONDS_MAX)
        if answer.status_code != httpx.codes.OK:
            raise SourceFailed(f"the API server answers {answer.status_code} to the list of {self._name.service}")
        listed = answer.json()
        return listed["metadata"]["resourceVersion"], {
            one["metadata"]["name"]: one for one in listed.get("items") or ()
        }

    async def _watch(
        self, client: httpx.AsyncClient, path: str, selector: Mapping[str, str], version: str, slices: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """`slices` after each change, until the version is gone. Streams that end, or are cut off, are begun again."""
        while True:
            parameters = dict(selector) | {"watch": "1", "allowWatchBookmarks": "true", "resourceVersion": version}
            parameters["timeoutSeconds"] = str(WATCH_SECONDS)
            async with client.stream("GET", path, params=parameters, headers=await self._headers()) as answer:
                if answer.status_code == GONE:
                    return
                if answer.status_code != httpx.codes.OK:
                    raise SourceFailed(
                        f"the API server answers {answer.status_code} to the watch of {self._name.service}"
                    )
                with suppress(httpx.RemoteProtocolError):  # the stream was cut off: what has been seen is known
                    async for line in answer.aiter_lines():
                        if not line:
                            continue
                        event = json.loads(line)
                        kind, changed = event["type"], event["object"]
                        if kind == "ERROR":
                            if changed.get("code") == GONE:
                                return
                            raise SourceFailed(f"the watch of {self._name.service} ended: {changed.get('message')}")
                        version = changed["metadata"]["resourceVersion"]
                        if kind == "BOOKMARK":
                            continue
                        if kind == "DELETED":
                            slices.pop(changed["metadata"]["name"], None)
                        else:
                            slices[changed["metadata"]["name"]] = changed
                        yield slices
            await asyncio.sleep(PAUSE_SECONDS)

    def _found(self, slices: Mapping[str, Any]) -> tuple[Found, ...]:
        """Endpoints that are ready: `ready` is false, too, for those that end. Left out means true."""
        found = set()
        for one in slices.values():
            port = self._port(one.get("ports") or ())
            for endpoint in one.get("endpoints") or ():
                ready = (endpoint.get("conditions") or {}).get("ready")
                if port is None or ready is False or one.get("addressType") == "FQDN":
                    continue
                address = endpoint["addresses"][0]
                host = f"[{address}]" if one.get("addressType") == "IPv6" else address
                found.add(
                    Found(f"{self._name.scheme}://{host}:{port}", (endpoint.get("targetRef") or {}).get("name", ""))
                )
        return tuple(sorted(found))

    def _port(self, ports: Any) -> int | None:
        wanted = self._name.port
        if isinstance(wanted, int):
            return wanted
        numbers = [port["port"] for port in ports if wanted is None or port.get("name") == wanted]
        return numbers[0] if len(numbers) == 1 else None

    def _server(self) -> str:
        if self._name.server is not None:
            return self._name.server
        host, port = self._environ.get(SERVER_HOST), self._environ.get(SERVER_PORT, "443")
        if not host:
            raise SourceFailed(f"{SERVER_HOST} is not set: not in a cluster; say `server` where the API server is")
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"

    def _trusted(self) -> ssl.SSLContext:
        file = self._name.ca_file or ACCOUNT / "ca.crt"
        return ssl.create_default_context(cafile=str(file) if file.is_file() else None)

    async def _headers(self) -> dict[str, str]:
        """The token is read each time: the kubelet replaces it every hour."""
        token = await asyncio.to_thread(_read, self._name.token_file or ACCOUNT / "token")
        return {"authorization": f"Bearer {token}"} if token else {}


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
