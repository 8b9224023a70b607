"""Servers of our own: made, started, stopped, killed, copied to a standby, promoted.

All of them run as the user who runs this, from the programs in `bin`, without TCP. The current primary is
`Servers.main`; actors ask `conninfo()` anew at each connect, so that they follow a promotion.
"""

import os
import re
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

import psycopg

SETTINGS = {
    "shared_preload_libraries": "my_worker",
    "my_worker.database": "postgres,other",
    # So long that a wake-up that is lost shows as a job that is stuck.
    "my_worker.naptime": "300",
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "60",
    "max_worker_processes": "24",
    "max_prepared_transactions": "20",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "restart_after_crash": "on",
    "log_line_prefix": "%m [%p] %b %e ",
    "log_checkpoints": "off",
    "log_autovacuum_min_duration": "-1",
    "deadlock_timeout": "200ms",
    "autovacuum_naptime": "5s",
    "hot_standby_feedback": "off",
    "wal_receiver_status_interval": "1s",
}


class Nature:
    """The clock and the disk of all servers, by a library that is loaded into them (nature.c); None of it where no compiler is."""

    def __init__(self, home):
        self.file, self.library = Path(home) / "nature", Path(home) / "nature.so"
        self.file.write_bytes(bytes(16))
        source = Path(__file__).parent / "nature.c"
        try:
            done = subprocess.run(["cc", "-O2", "-shared", "-fPIC", source, "-o", self.library, "-ldl"], capture_output=True, check=False)
            self.works = done.returncode == 0
        except OSError:
            self.works = False

    def environment(self):
        return {**os.environ, "LD_PRELOAD": str(self.library), "NATURE": str(self.file)} if self.works else None

    def set(self, clock=0.0, flush=0.0):
        """How far the clock is off, and how much longer a flush takes, in seconds."""
        with open(self.file, "r+b", buffering=0) as file:
            file.write(struct.pack("qq", round(clock * 1e6), round(flush * 1e6)))


class Server:
    def __init__(self, name, home, bin_dir, disk=None, nature=None):
        self.name, self.nature = name, nature
        self.home = Path(home) / name
        self.bin = Path(bin_dir)
        self.data = (disk or self.home) / "data"
        self.log = self.home / "log"
        self.home.mkdir(parents=True)
        self.sockets = self.home / "s"
        self.sockets.mkdir(mode=0o700)

    def program(self, name, *args, check=True, timeout=120, env=None):
        done = subprocess.run([self.bin / name, *map(str, args)], capture_output=True, text=True, timeout=timeout, check=False, env=env)
        if check and done.returncode:
            raise RuntimeError(f"{name} {' '.join(map(str, args))}: {done.stdout}{done.stderr}")
        return done

    def init(self, **settings):
        self.program("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync",
                     "-X", self.home / "wal")
        self.configure(**{**SETTINGS, **settings})

    def configure(self, **settings):
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(f"unix_socket_directories = '{self.sockets}'\n")
            for name, value in settings.items():
                file.write(f"{name} = '{value}'\n")

    def conninfo(self, dbname="postgres", user="postgres"):
        return dict(host=str(self.sockets), port=5432, dbname=dbname, user=user, connect_timeout=5)

    def connect(self, dbname="postgres", user="postgres", **options):
        return psycopg.connect(**self.conninfo(dbname, user), autocommit=True, prepare_threshold=None, **options)

    def start(self, check=True):
        # A leader of its own session: a signal to the driver's group must not reach it.
        return self.program("pg_ctl", "-s", "-w", "-t", "90", "-D", self.data, "-l", self.log, "start", check=check,
                            env=self.nature and self.nature.environment())

    def stop(self, mode="fast", check=True, seconds=90):
        return self.program("pg_ctl", "-s", "-w", "-t", seconds, "-D", self.data, "-m", mode, "stop", check=check)

    def promote(self):
        self.program("pg_ctl", "-s", "-w", "-t", "90", "-D", self.data, "promote")

    def postmaster(self):
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def is_up(self):
        try:
            with self.connect() as conn:
                return conn.execute("SELECT NOT pg_is_in_recovery()").fetchone()[0]
        except psycopg.Error:
            return False

    def children(self):
        """Processes of this server as (pid, title), by /proc, which also answers while nobody may log in."""
        parent = self.postmaster()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                stat = (entry / "stat").read_text()
                if int(stat.rsplit(")", 1)[1].split()[1]) == parent:
                    title = (entry / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
                    found.append((int(entry.name), title))
            except (OSError, IndexError, ValueError):
                continue
        return sorted(found)

    def recovers(self):
        """Whether the log tells of a crash or a start, and not yet of its end."""
        last = None
        for line in self.log_lines():
            for words in ("reinitializing", "starting PostgreSQL", "ready to accept connections"):
                if words in line:
                    last = words
        return last != "ready to accept connections"

    def log_lines(self):
        try:
            return self.log.read_text(errors="replace").splitlines()
        except OSError:
            return []


class Servers:
    """The primary of the moment, and what becomes of it."""

    def __init__(self, home, bin_dir, small=None):
        self.home, self.bin = home, bin_dir
        self.nature = Nature(home)
        self.small = small  # a small disk, for the first server's data but its log of transactions
        self.lock = threading.RLock()  # held by whoever takes the server down or brings it back
        self.number = 0
        self.old = []
        self.standby = None
        self.main = self.new(small)

    def new(self, disk=None):
        self.number += 1
        return Server(f"server{self.number}", self.home, self.bin, disk, self.nature)

    def all(self):
        return self.old + [self.main] + ([self.standby] if self.standby else [])

    def connect(self, *args, **options):
        return self.main.connect(*args, **options)

    def ensure_up(self, seconds=90):
        """Until the primary takes commands: it may be recovering, or have gone down altogether."""
        end = time.monotonic() + seconds
        while not self.main.is_up():
            if time.monotonic() > end:
                raise RuntimeError(f"the server did not come up in {seconds} s; its log is {self.main.log}")
            pid = self.main.postmaster()
            if pid is None or not alive(pid):
                self.main.start(check=False)
            time.sleep(0.1)

    def stop_all(self):
        for server in self.all():
            if server.postmaster() and alive(server.postmaster()):
                server.stop("immediate", check=False)


def alive(pid):
    try:
        return not re.search(r"\) [ZX] ", Path(f"/proc/{pid}/stat").read_text())
    except OSError:
        return False


def exists(pid):
    """Whether it is there, or has ended and its parent does not know yet."""
    return Path(f"/proc/{pid}").exists()


def kill(pid, sig=signal.SIGKILL):
    """Whether the process was there to get the signal."""
    try:
        os.kill(pid, sig)
        return True
    except ProcessLookupError:
        return False
