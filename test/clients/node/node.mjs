// Node's own fetch and http2, undici and ws. The CA comes in NODE_EXTRA_CA_CERTS.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import dns from "node:dns";
import http2 from "node:http2";
import { Agent, fetch as undiciFetch } from "undici";
import WebSocket from "ws";
import { authenticated, check, done, origin, platform, requireNothingOfThePlatform, suspend, vm } from "./session.mjs";

// No DNS knows the names, and not every resolver those below .localhost.
const lookup = dns.lookup;
dns.lookup = (hostname, ...rest) => lookup(vm.named && hostname === vm.hostname ? "127.0.0.1" : hostname, ...rest);

const agents = { "HTTP/1.1": new Agent({ allowH2: false }), "HTTP/2": new Agent({ allowH2: true }) };
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

for (const [protocol, dispatcher] of Object.entries(agents)) {
  await check(`undici over ${protocol} gets and sends`, async () => {
    const seen = await (await undiciFetch(`${origin}/seen`, { dispatcher, headers: authenticated })).json();
    assert.equal(seen.port, 8080);
    requireNothingOfThePlatform(seen);
    const big = await undiciFetch(`${origin}/big`, { dispatcher, headers: authenticated });
    assert.equal(sha256(Buffer.from(await big.arrayBuffer())), big.headers.get("x-sha256"));
    const body = Buffer.alloc(1 << 20, "dormouse");
    const sent = await undiciFetch(`${origin}/upload`, { dispatcher, method: "POST", headers: authenticated, body });
    assert.deepEqual(await sent.json(), { size: body.length, sha256: sha256(body) });
    const refused = await undiciFetch(`${origin}/seen`, { dispatcher });
    assert.equal(refused.status, 403);
    assert.equal(await refused.text(), "Request missing authentication");
  });
}

await check("fetch gets from another port", async () => {
  const seen = await (await fetch(`${origin}/seen`, { headers: { ...authenticated, "x-aws-proxy-port": "9090" } })).json();
  assert.equal(seen.port, 9090);
});

await check("http2 streams both ways", async () => {
  const session = http2.connect(origin);
  const stream = session.request({ ":path": "/upload", ":method": "POST", ...authenticated });
  const head = new Promise((resolve, reject) => { stream.on("response", resolve); stream.on("error", reject); });
  const parts = [Buffer.alloc(100_000, "a"), Buffer.alloc(100_000, "b")];
  for (const part of parts) stream.write(part);
  stream.end();
  assert.equal((await head)[":status"], 200);
  const answer = [];
  for await (const part of stream) answer.push(part);
  assert.deepEqual(JSON.parse(Buffer.concat(answer)), { size: 200_000, sha256: sha256(Buffer.concat(parts)) });
  session.close();
});

const socket = (protocols, headers = {}) => new Promise((resolve, reject) => {
  const connection = new WebSocket(`wss://${vm.host}/socket`, protocols, { headers });
  connection.once("error", reject);
  connection.once("message", (first) => resolve({ connection, seen: JSON.parse(first) }));
});

for (const [name, protocols, headers] of [
  ["subprotocols", platform(vm.token, "lambda-microvms.port.9090", "chat"), {}],
  ["headers", ["chat"], { ...authenticated, "x-aws-proxy-port": "9090" }],
]) {
  await check(`ws authenticates with ${name}, wakes the microVM, and chooses a port`, async () => {
    await suspend();
    const { connection, seen } = await socket(protocols, headers);
    assert.equal(connection.protocol, "chat");
    assert.equal(seen.port, 9090);
    requireNothingOfThePlatform(seen);
    const echoed = new Promise((resolve) => connection.once("message", resolve));
    connection.send("hello");
    assert.equal(String(await echoed), "hello");
    connection.close();
  });
}

await check("ws is refused without a token for the port", async () => {
  await assert.rejects(socket(platform(vm.narrow, "lambda-microvms.port.9090")), /403/);
});
done();
