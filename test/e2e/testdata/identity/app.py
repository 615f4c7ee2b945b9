"""Tells what an AWS SDK finds out in a microVM about who it is.

Port 8080 is the app, port 9000 takes the lifecycle hooks, which note the credentials of their time.
"""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

seen = {}


def credentials():
    """What the default chain of a fresh session finds."""
    found = boto3.Session().get_credentials()
    if found is None:
        return None
    keys = found.get_frozen_credentials()
    return {"key": keys.access_key, "secret": keys.secret_key, "token": keys.token, "method": found.method}


def caller():
    """Asks an API with whatever boto3 finds, signed, without leaving the guest."""
    client = boto3.client("sts", region_name="us-east-1")
    return client.generate_presigned_url("get_caller_identity")


class Handler(BaseHTTPRequestHandler):
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class App(Handler):
    def do_GET(self):
        self.answer({"/credentials": credentials, "/caller": caller, "/seen": lambda: seen}[self.path]())

    def do_POST(self):
        """Sends requests to the metadata service, as [method, path, headers], and tells the answers."""
        answers = []
        for method, path, headers in json.loads(self.rfile.read(int(self.headers["Content-Length"]))):
            connection = http.client.HTTPConnection("169.254.169.254", timeout=20)
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            answers.append({"status": response.status, "body": response.read().decode(), "type": response.getheader("Content-Type")})
            connection.close()
        self.answer(answers)


class Hooks(Handler):
    def do_POST(self):
        name = self.path.rsplit("/", 1)[1]
        seen[name] = credentials()
        if seen[name] is None or name != "validate":
            print(name, seen[name] and seen[name]["key"], flush=True)
        else:
            print("validated by", seen[name]["key"], flush=True)
        self.answer({})


hooks = ThreadingHTTPServer(("", 9000), Hooks)
threading.Thread(target=hooks.serve_forever, daemon=True).start()
ThreadingHTTPServer(("", 8080), App).serve_forever()
