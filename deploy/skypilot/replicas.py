#!/usr/bin/env python3
"""Tell jeton which of SkyPilot's clusters serve: their endpoints, written into the file that `discovery: {file: …}` watches.

Asks `sky status --endpoint PORT CLUSTER` for each, again and again. One that has no endpoint (preempted, still starting) is left
out; jeton keeps its lease for `grace_seconds`. When SkyPilot answers for none of them, the file stays as it is: that may be
SkyPilot's own trouble, and a pool is not to be given up for it. Nothing but Python's own library.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ANSWER_SECONDS_MAX = 120


def endpoint(cluster: str, port: int) -> str | None:
    """The server's URL, or None where it has none now."""
    command = ["sky", "status", "--endpoint", str(port), cluster]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{cluster}: {error}", file=sys.stderr)
        return None
    address = said.stdout.strip().splitlines()[-1].strip() if said.stdout.strip() else ""
    if said.returncode != 0 or ":" not in address:
        return None
    return address if "://" in address else f"http://{address}"


def look(clusters: list[str], port: int, out: Path) -> bool:
    """Write what is found; whether anything was."""
    found = [{"url": url.rstrip("/"), "name": one} for one in clusters if (url := endpoint(one, port)) is not None]
    if not found:
        return False
    new = out.with_name(f".{out.name}.new")
    new.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(new, out)  # whole or not at all: jeton reads it at any moment
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clusters", nargs="+", help="names of SkyPilot clusters")
    parser.add_argument("--out", type=Path, required=True, help="the file that jeton watches")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--every-seconds", type=float, help="again and again; once when left out")
    arguments = parser.parse_args()
    while True:
        is_known = look(arguments.clusters, arguments.port, arguments.out)
        if not is_known:
            print(f"no cluster has an endpoint; {arguments.out} stays as it is", file=sys.stderr)
        if arguments.every_seconds is None:
            sys.exit(0 if is_known else 1)
        time.sleep(arguments.every_seconds)


if __name__ == "__main__":
    main()
