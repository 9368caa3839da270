"""A real PostgreSQL for a test process, and a database of its own for each test that asks."""

import atexit
import os
import signal
import tempfile
import time
import warnings
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict

from router.ledger.address import PostgresAddress

START_SECONDS = 60.0


class PostgresServer:
    """Reached by a socket in its own directory. As root it runs as a user of its own, for PostgreSQL refuses to be root."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the folder that pgserver keeps its lock in
            import pgserver

        # Not below pytest's folder: the user that it runs as must be able to get there, and a socket's path is short.
        self._directory = Path(tempfile.mkdtemp(prefix="jeton-pg-"))
        self._server = pgserver.get_server(self._directory, cleanup_mode="delete")
        self.host = conninfo_to_dict(self._server.get_uri())["host"]
        atexit.register(self.stop)
        # What a process has written outlives its being killed; to bring it to the disk matters when the machine falls over, which
        # no test has it do, and takes seconds at every start after a kill.
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.host}"

    def database(self, copy_of: PostgresAddress | None = None) -> PostgresAddress:
        """An empty one, or one with all that is in another, which nobody may be connected to."""
        name = f"ledger_{uuid4().hex}"
        template = "template1" if copy_of is None else conninfo_to_dict(copy_of.url)["dbname"]
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[call-overload]
        return PostgresAddress(self.url(name))

    def drop(self, address: PostgresAddress) -> None:
        name = str(conninfo_to_dict(address.url)["dbname"])
        with closing(psycopg.connect(self.url("postgres"), autocommit=True)) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")  # type: ignore[call-overload]

    def kill(self) -> None:
        """kill -9, of all its processes at once."""
        processes = self._processes()
        for process in processes:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        deadline_seconds = time.monotonic() + START_SECONDS
        while not all(map(_is_dead, processes)):
            assert time.monotonic() < deadline_seconds, "it does not die"
            time.sleep(0.005)
        # Whoever starts it again would wait for the dead to be buried, which some machines take seconds for.
        (self._directory / "postmaster.pid").unlink(missing_ok=True)

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections and its port, and answers nobody."""
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.suspend()  # first, so that no child is born meanwhile
        for child in postmaster.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended before it could be stopped
                child.suspend()

    def thaw(self) -> None:
        for process in reversed(self._processes()):  # the postmaster last: it buries those that ended meanwhile
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(self._server.get_pid())
        return [postmaster, *postmaster.children(recursive=True)]

    def start_again(self) -> None:
        """After `kill`: with recovery from its log. Nothing changes where it runs."""
        deadline_seconds = time.monotonic() + START_SECONDS
        while True:
            try:
                self._server.ensure_postgres_running()
                return
            except Exception:
                if time.monotonic() > deadline_seconds:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        if self._directory.exists():
            self._server.cleanup()
        atexit.unregister(self.stop)


def _is_dead(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
