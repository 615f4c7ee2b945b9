"""A server that remembers: it counts in memory, and shows what of it a microVM keeps.

Port 8080 is the app, port 9000 takes the lifecycle hooks. Nothing but the standard library.
"""

import http.client
import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

APP_PORT, HOOK_PORT = 8080, 9000
HOOK_PATH = "/aws/lambda-microvms/runtime/v1/"
JOURNAL = "journal.txt"
MAX_BODY = 16 << 20  # bytes


class State:
    """Everything the app knows. It is in RAM only, but for the journal."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counter = 0
        self.ticks = 0  # seconds that the ticking thread has lived through
        self.nonce = None  # made by POST /nonce, so that each microVM has its own
        self.hooks = dict.fromkeys(["ready", "validate", "run", "resume", "suspend", "terminate"], 0)
        self.microvm_id = None  # told by the run hook
        self.payload = None
        self.pipe_out, self.pipe_in = os.pipe()
        os.set_blocking(self.pipe_out, False)
        os.set_blocking(self.pipe_in, False)

    def tick(self):
        while True:
            time.sleep(1)
            with self.lock:
                self.ticks += 1


state = State()


class Handler(BaseHTTPRequestHandler):
    """Reads a request's body and hands it to the method that `routes` names."""

    protocol_version = "HTTP/1.1"
    wbufsize = 16 << 10  # head and body of a small answer leave in one packet
    disable_nagle_algorithm = True
    routes = {}

    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self.close_connection = True
            return self.answer({"error": "body too large"}, 413)
        self.body = self.rfile.read(length)
        route = self.routes.get((self.command, self.path.split("?")[0]))
        if route is None:
            return self.answer({"error": "no such path"}, 404)
        route(self)

    do_POST = do_GET

    def answer(self, value, status=200):
        self.send(json.dumps(value).encode() + b"\n", "application/json", status)

    def send(self, body, kind="application/octet-stream", status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass  # a line per request would be most of the log


class App(Handler):
    def count(self):
        with state.lock:
            state.counter += 1
            self.answer({"counter": state.counter, "nonce": state.nonce, "ticks": state.ticks})

    def make_nonce(self):
        with state.lock:
            state.nonce = os.urandom(16).hex()
            self.answer({"nonce": state.nonce})

    def append_journal(self):
        with open(JOURNAL, "ab") as journal:
            journal.write(self.body + b"\n")
        self.read_journal()

    def read_journal(self):
        try:
            with open(JOURNAL, "rb") as journal:
                self.send(journal.read(), "text/plain")
        except FileNotFoundError:
            self.send(b"", "text/plain")

    def fill_pipe(self):
        try:
            self.answer({"written": os.write(state.pipe_in, self.body)})
        except BlockingIOError:
            self.answer({"error": "the pipe is full"}, 409)

    def drain_pipe(self):
        try:
            self.send(os.read(state.pipe_out, 64 << 10), "text/plain")
        except BlockingIOError:
            self.send(b"", "text/plain")

    def show_random(self):
        self.answer({"random": os.urandom(16).hex()})

    def show_time(self):
        self.answer({"time": time.time()})

    def show_identity(self):
        try:
            with open("/etc/machine-id") as file:
                machine_id = file.read().strip()
        except FileNotFoundError:
            machine_id = None
        self.answer({"hostname": socket.gethostname(), "machineId": machine_id,
                     "microvmId": state.microvm_id, "runHookPayload": state.payload})

    def show_hooks(self):
        self.answer(state.hooks)

    def stream(self):
        """Ten lines, one every half second, each sent as soon as it is there."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for n in range(10):
            line = b"line %d\n" % n
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.flush()
            time.sleep(0.5)
        self.wfile.write(b"0\r\n\r\n")

    def echo(self):
        self.send(self.body, self.headers.get("Content-Type") or "application/octet-stream")

    routes = {
        ("GET", "/"): count, ("POST", "/nonce"): make_nonce,
        ("GET", "/file"): read_journal, ("POST", "/file"): append_journal,
        ("GET", "/pipe"): drain_pipe, ("POST", "/pipe"): fill_pipe,
        ("GET", "/random"): show_random, ("GET", "/time"): show_time, ("GET", "/identity"): show_identity,
        ("GET", "/hooks"): show_hooks, ("GET", "/stream"): stream, ("POST", "/echo"): echo,
    }


class Hooks(Handler):
    """Called by the platform: ready and validate while the image is built, the others later."""

    def called(self):
        name = self.path.removeprefix(HOOK_PATH)
        with state.lock:
            state.hooks[name] += 1
        if name in ("ready", "validate") and not app_serves():
            return self.answer({"error": "not yet"}, 503)  # ask again
        if name == "run":
            told = json.loads(self.body or b"{}")
            state.microvm_id = told.get("microvmId")
            state.payload = told.get("runHookPayload")
        self.answer({})

    routes = dict.fromkeys([("POST", HOOK_PATH + name) for name in state.hooks], called)


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def server_bind(self):
        TCPServer.server_bind(self)  # HTTPServer's would look up this host's name in the DNS
        self.server_name, self.server_port = self.server_address


def app_serves():
    """Asks the app for something. This also brings the code of a request into memory."""
    connection = http.client.HTTPConnection("127.0.0.1", APP_PORT, timeout=5)
    try:
        connection.request("GET", "/time")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    threading.Thread(target=state.tick, daemon=True).start()
    hooks = Server(("", HOOK_PORT), Hooks)
    threading.Thread(target=hooks.serve_forever, daemon=True).start()
    print(f"counter: app on {APP_PORT}, hooks on {HOOK_PORT}", flush=True)
    Server(("", APP_PORT), App).serve_forever()
