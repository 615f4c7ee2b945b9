"""What end-to-end tests need inside a microVM, beyond examples/counter.

Port 8080 is the app, port 9000 takes the lifecycle hooks. READINESS says how the start of the app
goes: "ok", "exit" (it ends with code 3), or the status with which the ready hook answers.
"""

import base64
import hashlib
import json
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOOK_PATH = "/aws/lambda-microvms/runtime/v1/"
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
BUILT = "/srv/built"


class State:
    def __init__(self):
        self.called = threading.Condition()  # guards hooks
        self.hooks = []
        self.refuse_suspend = False


state = State()


class Keepsake:
    """A mebibyte in memory and the same on disk, of which digests are kept in memory."""

    path, size = "keepsake", 1 << 20

    def __init__(self):
        self.lock = threading.Lock()
        self.round = 0
        self.memory = bytearray(self.size)
        self.digest = None

    def verify(self):
        with self.lock:
            held = self.digest is None or {"memory": self.digest, "disk": self.digest} == {
                "memory": hashlib.sha256(self.memory).digest(), "disk": hashlib.sha256(self.read()).digest()}
            self.round += 1
            at = self.round * 4099 % (self.size - 65536)  # another place each time, at odds with pages
            self.memory[at:at + 65536] = os.urandom(65536)
            with open(self.path, "wb") as file:
                file.write(self.memory)
                file.flush()
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # the next reading is from disk
            self.digest = hashlib.sha256(self.memory).digest()
            return {"held": held, "round": self.round}

    def read(self):
        with open(self.path, "rb") as file:
            return file.read()


keepsake = Keepsake()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def read_body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send_chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *args):
        pass


class App(Handler):
    def do_GET(self):
        {"/headers": self.show_headers, "/environment": self.show_environment, "/status": self.show_status,
         "/built": self.show_built, "/hook-stream": self.stream_hooks, "/socket": self.open_socket}[self.path]()

    def do_POST(self):
        {"/mirror": self.mirror, "/dial": self.dial, "/exit": self.exit, "/print": self.print, "/echo": self.echo,
         "/verify": self.verify, "/refuse-suspend": self.refuse_suspend}[self.path]()

    def show_headers(self):
        self.answer({"peer": self.client_address[0], "headers": self.headers.items()})

    def show_environment(self):
        self.answer(dict(os.environ))

    def show_status(self):
        """What the kernel says of this process."""
        with open("/proc/self/status") as file:
            pairs = (line.split(":", 1) for line in file)
            self.answer({name: value.strip() for name, value in pairs})

    def show_built(self):
        files = {}
        for name in sorted(os.listdir(BUILT)):
            with open(os.path.join(BUILT, name)) as file:
                files[name] = file.read()
        self.answer(files)

    def stream_hooks(self):
        """A line for each lifecycle hook that was called so far, and for each one that will be."""
        self.begin_stream()
        sent = 0
        while True:
            with state.called:
                state.called.wait_for(lambda: len(state.hooks) > sent)
                names = state.hooks[sent:]
            for name in names:
                self.send_chunk(name.encode() + b"\n")
            sent += len(names)

    def mirror(self):
        """Sends every chunk of the request back as soon as it is there."""
        self.begin_stream()
        while True:
            size = int(self.rfile.readline(), 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            self.send_chunk(data)  # the last one, of size 0, also ends the response
            if size == 0:
                return

    def dial(self):
        """Tells for each address of the request whether something accepts connections there."""
        open_addresses = []
        for address in json.loads(self.read_body()):
            host, _, port = address.rpartition(":")
            try:
                socket.create_connection((host, int(port)), timeout=2).close()
                open_addresses.append(address)
            except OSError:
                pass
        self.answer(open_addresses)

    def exit(self):
        code = int(self.read_body())
        self.answer({})
        os._exit(code)

    def print(self):
        """Writes the request to standard output, a line."""
        print(self.read_body().decode(), flush=True)
        self.answer({})

    def echo(self):
        body = self.read_body()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def verify(self):
        """Tells whether memory and disk hold what the last call has left there, and changes it."""
        self.answer(keepsake.verify())

    def refuse_suspend(self):
        state.refuse_suspend = True
        self.answer({})

    def open_socket(self):
        """A WebSocket that first sends the headers of its handshake and then echoes messages."""
        key = self.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", accept.decode())
        offered = self.headers.get("Sec-WebSocket-Protocol")
        if offered:
            self.send_header("Sec-WebSocket-Protocol", offered.split(",")[0].strip())
        self.end_headers()
        self.close_connection = True
        self.send_frame(1, json.dumps(self.headers.items()).encode())
        while True:
            opcode, message = self.read_frame()
            self.send_frame(opcode, message)
            if opcode == 8:  # close
                return

    def send_frame(self, opcode, payload):
        if len(payload) < 126:
            head = bytes([0x80 | opcode, len(payload)])
        else:
            head = bytes([0x80 | opcode, 126]) + len(payload).to_bytes(2, "big")
        self.wfile.write(head + payload)

    def read_frame(self):
        """One unfragmented frame of up to 64 KiB."""
        head = self.rfile.read(2)
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(self.rfile.read(2), "big")
        mask = self.rfile.read(4)
        data = self.rfile.read(size)
        return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


class Hooks(Handler):
    def do_POST(self):
        name = self.path.removeprefix(HOOK_PATH)
        body = self.read_body()
        print("hook", name, flush=True)
        with state.called:
            state.hooks.append(name)
            state.called.notify_all()
        if name == "terminate":
            time.sleep(0.5)  # lets the stream of hooks tell of this one
        self.answer({}, self.status(name, body))

    def status(self, name, body):
        readiness = os.environ.get("READINESS", "ok")
        if name == "ready" and readiness != "ok":
            return int(readiness)
        if name == "run" and json.loads(body).get("runHookPayload") == "refuse":
            return 500
        if name == "suspend" and state.refuse_suspend:
            return 500
        return 200


if __name__ == "__main__":
    if os.environ.get("READINESS") == "exit":
        print("giving up", flush=True)
        sys.exit(3)
    hooks = ThreadingHTTPServer(("", 9000), Hooks)
    threading.Thread(target=hooks.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 8080), App).serve_forever()
