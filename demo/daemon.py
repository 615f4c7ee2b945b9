"""The daemon under demonstration: its process, its data folder, and what its command line tells."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

START_LIMIT = 120  # seconds; the first start makes keys and certificates
STOP_LIMIT = 300  # seconds; it suspends what runs


def fresh_data_dir(path, default, keep):
    """Makes the folder. The default one is the demo's own, so it begins without what an earlier demo left."""
    if path == default and path.exists() and not keep:
        refuse_if_served(path)
        shutil.rmtree(path)
    path.mkdir(parents=True, exist_ok=True)
    refuse_if_served(path)


def refuse_if_served(path):
    with contextlib.suppress(FileNotFoundError), open(path / "lock", "rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"demo: a daemon serves from {path}: stop it, or choose another --data-dir")


class Daemon:
    def __init__(self, binary, data_dir, report):
        self.binary, self.data_dir, self.report = binary, data_dir, report
        self.log_file = data_dir / "demo" / "daemon.log"
        self.process, self.seen = None, set()

    def start(self):
        """Starts the daemon and returns the environment that `dormouse env` makes."""
        if not self.binary.exists():
            self.report.fatal(f"{self.binary} is missing: run `make build`")
        self.log_file.parent.mkdir(exist_ok=True)
        daemon_file = self.data_dir / "daemon.json"  # written when it listens
        daemon_file.unlink(missing_ok=True)
        started = time.monotonic()
        self.report.line(f"$ dormouse serve --data-dir {self.data_dir}")
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "--data-dir", self.data_dir],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while not daemon_file.exists():
            if self.process.poll() is not None or time.monotonic() - started > START_LIMIT:
                self.report.fatal("the daemon did not start:\n" + self.log_tail())
            time.sleep(0.02)
        self.report.check("it serves", True)
        self.report.measured("daemon start", time.monotonic() - started)
        return self.client_env()

    def client_env(self):
        self.report.line('$ eval "$(dormouse env)"')
        script = self.command("env") + '\n"$0" -c "import json, os; print(json.dumps(dict(os.environ)))"'
        return json.loads(subprocess.run(["sh", "-c", script, sys.executable], check=True, capture_output=True).stdout)

    def command(self, *arguments):
        """What a command of the daemon's command line prints."""
        return subprocess.run(
            [self.binary, *arguments, "--data-dir", self.data_dir], check=True, capture_output=True, text=True).stdout

    def follow_build_log(self, build, limit):
        """Prints the build's log until the build has ended, for at most limit seconds."""
        self.report.line(f"$ dormouse logs --build {build} --follow")
        started = time.monotonic()
        follower = subprocess.Popen(
            [self.binary, "logs", "--build", build, "--follow", "--data-dir", self.data_dir],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        overdue = threading.Timer(limit, follower.terminate)
        overdue.start()
        try:
            for line in follower.stdout:
                self.report.line(f"  {time.monotonic() - started:6.1f}s  {line.rstrip()}")
        finally:
            overdue.cancel()
            follower.terminate()
            follower.wait()

    def phases(self, subject, operation):
        """Seconds of each phase of the last such operation, by name; empty if there was none."""
        events = json.loads(self.command("events", subject, "--output", "json"))
        for event in events:  # newest first; a build's operation is "build" and its version
            if event["operation"].split()[0] == operation and event["phases"]:
                return {phase["name"]: phase["seconds"] for phase in event["phases"]}
        return {}

    def stop(self):
        """SIGTERM: the daemon suspends what runs and ends."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.report.step("Stop the daemon: it suspends what runs")
            self.seen = descendants(self.process.pid)
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout=STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.report.check("it ended by itself, without an error", status == 0, f"status {status}\n{self.log_tail()}")

    def leftovers(self):
        """Processes of the daemon that outlived it."""
        return [pid for pid, start in self.seen if start_time(pid) == start]

    def remove_data(self):
        shutil.rmtree(self.data_dir)
        self.report.line(f"removed {self.data_dir}")

    def log_tail(self, lines=15):
        with open(self.log_file, errors="replace") as log:
            return "".join(log.readlines()[-lines:])


def descendants(pid):
    """(pid, start time) of every process below pid."""
    found = set()
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in map(int, children.read().split()):
                    found |= {(child, start_time(child))} | descendants(child)
    return found


def start_time(pid):
    """When a process started, which tells it from a later one with its number; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]  # proc_pid_stat(5): state, starttime
