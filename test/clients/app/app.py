"""A page with what pages use: a script, events, a WebSocket, a large file, uploads. Ports 8080 and 9090."""

import base64
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
BIG = bytes(range(256)) * (8 << 12)  # 8 MiB
BIG_SHA256 = hashlib.sha256(BIG).hexdigest()
PAGE = b"""<!doctype html>
<title>in a microVM</title>
<script src="/script.js"></script>
<p id="said"></p>
"""
SCRIPT = b"addEventListener('load', () => { document.getElementById('said').textContent = 'scripts run'; });"


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 << 10
    disable_nagle_algorithm = True

    def do_GET(self):
        routes = {"/": self.page, "/script.js": self.script, "/seen": self.seen, "/events": self.events,
                  "/big": self.big, "/socket": self.open_socket}
        routes.get(self.path, self.missing)()

    def do_POST(self):
        """Tells what arrived, of a body with a length or in chunks."""
        digest, size = hashlib.sha256(), 0
        for part in self.parts():
            digest.update(part)
            size += len(part)
        self.answer_json({"size": size, "sha256": digest.hexdigest()})

    def parts(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            part = self.rfile.read(min(left, 64 << 10))
            if not part:
                return
            left -= len(part)
            yield part

    def answer(self, body, kind, status=200, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, value):
        self.answer(json.dumps(value).encode(), "application/json")

    def page(self):
        self.answer(PAGE, "text/html")

    def script(self):
        self.answer(SCRIPT, "text/javascript")

    def missing(self):
        self.answer(b"not here", "text/plain", 404)

    def big(self):
        self.answer(BIG, "application/octet-stream", headers=[("X-Sha256", BIG_SHA256)])

    def about(self):
        return {"port": self.server.server_port, "headers": [[name.lower(), value] for name, value in self.headers.items()]}

    def seen(self):
        self.answer_json(self.about())

    def events(self):
        """Three events, a moment apart, and then silence until the client goes."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            text = f"id: {number}\ndata: event {number}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()
            time.sleep(0.2)
        while True:
            time.sleep(1)
            self.wfile.write(b"2\r\n:\n\r\n")  # a comment; fails once the client has gone
            self.wfile.flush()

    def open_socket(self):
        """A WebSocket that first tells what the app saw and then echoes messages."""
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest()).decode())
        offered = self.headers.get("Sec-WebSocket-Protocol")
        if offered:
            self.send_header("Sec-WebSocket-Protocol", offered.split(",")[0].strip())
        self.end_headers()
        self.close_connection = True
        self.send_frame(1, json.dumps(self.about()).encode())
        while frame := self.read_frame():
            opcode, message = frame
            self.send_frame(opcode, message)
            if opcode == 8:  # close
                return

    def send_frame(self, opcode, payload):
        if len(payload) < 126:
            head = bytes([0x80 | opcode, len(payload)])
        else:
            head = bytes([0x80 | opcode, 126]) + len(payload).to_bytes(2, "big")
        self.wfile.write(head + payload)
        self.wfile.flush()

    def read_frame(self):
        """One unfragmented frame of up to 64 KiB; None at the end."""
        head = self.rfile.read(2)
        if len(head) < 2:
            return None
        size = head[1] & 0x7F
        if size == 126:
            size = int.from_bytes(self.rfile.read(2), "big")
        mask = self.rfile.read(4)
        data = self.rfile.read(size)
        return head[0] & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # clients that leave are no news


if __name__ == "__main__":
    threading.Thread(target=Server(("", 9090), App).serve_forever, daemon=True).start()
    Server(("", 8080), App).serve_forever()
