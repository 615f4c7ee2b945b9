"""requests, httpx and websockets; speaks as node/session.mjs says. No DNS knows the names, so this resolves them."""

import asyncio
import hashlib
import json
import socket
import ssl
import sys
import traceback

import httpx
import requests
import websockets

vm = json.loads(sys.stdin.readline())
ORIGIN = f"https://{vm['host']}"
AUTHENTICATED = {"x-aws-proxy-auth": vm["token"]}

if vm["named"]:
    getaddrinfo = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *args, **kwargs: getaddrinfo(
        "127.0.0.1" if host in (vm["hostname"], vm["hostname"].encode()) else host, *args, **kwargs)


def say(message):
    print(json.dumps(message), flush=True)


def suspend():
    say({"suspend": True})
    sys.stdin.readline()


def check(name):
    def run(promise):
        try:
            promise()
            say({"check": name, "error": ""})
        except Exception:
            say({"check": name, "error": traceback.format_exc()})
    return run


def platform(token, *more):
    return ["lambda-microvms", "lambda-microvms.authentication." + token, *more]


def require_nothing_of_the_platform(seen):
    for name, value in seen["headers"]:
        assert not name.startswith("x-aws-proxy-"), name
        assert vm["token"] not in value and "lambda-microvms" not in value, name


def requests_and_answers(client, protocol):
    seen = client.get(ORIGIN + "/seen", headers=AUTHENTICATED)
    assert seen.status_code == 200, seen.text
    assert getattr(seen, "http_version", protocol) == protocol
    require_nothing_of_the_platform(seen.json())
    elsewhere = client.get(ORIGIN + "/seen", headers={**AUTHENTICATED, "x-aws-proxy-port": "9090"})
    assert elsewhere.json()["port"] == 9090
    big = client.get(ORIGIN + "/big", headers=AUTHENTICATED)
    assert hashlib.sha256(big.content).hexdigest() == big.headers["x-sha256"]
    parts = [b"a" * 100_000, b"b" * 100_000]
    body = b"".join(parts)
    for content in (body, iter(parts)):  # with a length, and in chunks
        sent = client.post(ORIGIN + "/upload", headers=AUTHENTICATED, **{"data" if client.__module__.startswith("requests") else "content": content})
        assert sent.json() == {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}, sent.text
    refused = client.get(ORIGIN + "/seen")
    assert (refused.status_code, refused.text) == (403, "Request missing authentication")


@check("requests gets and sends")
def _():
    suspend()  # the first one wakes it
    with requests.Session() as client:  # which takes the CA from REQUESTS_CA_BUNDLE
        requests_and_answers(client, "HTTP/1.1")


for http2, protocol in ((False, "HTTP/1.1"), (True, "HTTP/2")):
    @check(f"httpx over {protocol} gets and sends")
    def _():
        with httpx.Client(http1=not http2, http2=http2, verify=ssl.create_default_context(cafile=vm["ca"]), timeout=120) as client:
            requests_and_answers(client, protocol)


def connect(protocols, **headers):
    return websockets.connect(
        f"wss://{vm['host']}/socket", subprotocols=protocols, additional_headers=headers, open_timeout=120,
        ssl=ssl.create_default_context(cafile=vm["ca"]))


async def talk(protocols, headers):
    async with connect(protocols, **headers) as connection:
        assert connection.subprotocol == "chat"
        seen = json.loads(await connection.recv())
        assert seen["port"] == 9090
        require_nothing_of_the_platform(seen)
        await connection.send("hello")
        assert await connection.recv() == "hello"


for name, protocols, headers in (
    ("subprotocols", platform(vm["token"], "lambda-microvms.port.9090", "chat"), {}),
    ("headers", ["chat"], {**AUTHENTICATED, "x-aws-proxy-port": "9090"}),
):
    @check(f"websockets authenticates with {name}, wakes the microVM, and chooses a port")
    def _():
        suspend()
        asyncio.run(talk(protocols, headers))


@check("websockets is refused without a token for the port")
def _():
    async def refused():
        try:
            async with connect(platform(vm["narrow"], "lambda-microvms.port.9090")):
                pass
        except websockets.InvalidStatus as error:
            assert error.response.status_code == 403
            return
        raise AssertionError("it was let in")
    asyncio.run(refused())


say({"done": True})
