"""A microVM's HTTPS endpoint, reached with its token."""

import http.client
import json
import shutil
import ssl
import subprocess
import time
from dataclasses import dataclass

TIMEOUT = 60  # seconds; a request to a sleeping microVM waits until it is awake


@dataclass
class Answer:
    status: int
    body: bytes
    seconds: float  # from the request until the first byte of the answer


class Endpoint:
    def __init__(self, vm, host, token, ca_bundle):
        self.vm, self.host, self.token, self.ca_bundle = vm, host, token, ca_bundle
        self.tls = ssl.create_default_context(cafile=ca_bundle)

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=b""):
        return self.request("POST", path, body)

    def json(self, path):
        answer = self.get(path)
        if answer.status != 200:
            raise RuntimeError(f"GET {path} of {self.vm}: {answer}")
        return json.loads(answer.body)

    def request(self, method, path, body=None):
        """A connection per request, as strangers come; a cut connection counts as status 0."""
        connection = http.client.HTTPSConnection(self.host, timeout=TIMEOUT, context=self.tls)
        started = time.monotonic()
        try:
            connection.request(method, path, body, {"X-aws-proxy-auth": self.token})
            response = connection.getresponse()
            seconds = time.monotonic() - started
            return Answer(response.status, response.read(), seconds)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, str(error).encode(), time.monotonic() - started)
        finally:
            connection.close()


def curl(report, endpoint, path):
    """The same by hand. Not everybody has curl."""
    if not shutil.which("curl"):
        return
    command = ["curl", "--silent", "--show-error", "--max-time", str(TIMEOUT), "--cacert", endpoint.ca_bundle]
    report.line(f'$ curl --cacert "$DORMOUSE_CA_BUNDLE" -H "X-aws-proxy-auth: $TOKEN" https://{endpoint.host}{path}')
    done = subprocess.run(
        [*command, "--header", "@-", f"https://{endpoint.host}{path}"],
        input=f"X-aws-proxy-auth: {endpoint.token}", capture_output=True, text=True)
    report.line(done.stdout.strip() or done.stderr.strip())
    report.check("curl reaches it", done.returncode == 0, done.stderr)
