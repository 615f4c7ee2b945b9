// Headless Chromium: what a page does. The token of a page load is set through the DevTools protocol, that of a WebSocket by the page.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import puppeteer from "puppeteer-core";
import { authenticated, check, done, origin, platform, requireNothingOfThePlatform, suspend, vm } from "./session.mjs";

// Root has no sandbox of Chromium's, and containers have little /dev/shm. Certificates are checked:
// the CA is in the browser's certificate store, which is in HOME. Names below .localhost it knows by itself.
const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
if (vm.named && !vm.hostname.endsWith(".localhost")) args.push(`--host-resolver-rules=MAP ${vm.hostname} 127.0.0.1`);
const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, headless: true, args });
const page = await browser.newPage();
page.setDefaultTimeout(120_000);

await check("without a token a page is refused", async () => {
  const response = await page.goto(`${origin}/`);
  assert.equal(response.status(), 403);
  assert.equal(await response.text(), "Request missing authentication");
});

await page.setExtraHTTPHeaders(authenticated);

await check("a page load wakes the microVM; its scripts load over HTTP/2 and TLS that is trusted", async () => {
  await suspend();
  const response = await page.goto(`${origin}/`);
  assert.equal(response.status(), 200);
  assert.equal(await page.title(), "in a microVM");
  assert.equal(await page.$eval("#said", (element) => element.textContent), "scripts run");
  const protocols = await page.evaluate(() =>
    [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")].filter((e) => !e.name.includes("favicon")).map((e) => e.nextHopProtocol));
  assert.deepEqual(protocols, ["h2", "h2"]);
  assert.equal(await page.evaluate(() => isSecureContext), true);
  const security = response.securityDetails();
  assert.equal(security.issuer(), vm.issuer);
});

await check("fetch reaches the app and another port, and hides the token", async () => {
  const [seen, elsewhere] = await page.evaluate(async () => {
    const other = await fetch("/seen", { headers: { "X-aws-proxy-port": "9090" } });
    return [await (await fetch("/seen")).json(), await other.json()];
  });
  assert.equal(seen.port, 8080);
  assert.equal(elsewhere.port, 9090);
  requireNothingOfThePlatform(seen);
});

await check("EventSource gets events as they happen", async () => {
  const events = await page.evaluate(() => new Promise((resolve, reject) => {
    const source = new EventSource("/events");
    const got = [];
    source.onmessage = (event) => {
      got.push([event.data, performance.now()]);
      if (got.length === 3) { source.close(); resolve(got); }
    };
    source.onerror = () => reject(new Error(`closed after ${got.length} events`));
  }));
  assert.deepEqual(events.map(([data]) => data), ["event 0", "event 1", "event 2"]);
  assert(events[2][1] - events[0][1] > 200, "not all at the end"); // the app sleeps 400 ms between them
});

await check("a large download arrives whole", async () => {
  const [sha256, wanted] = await page.evaluate(async () => {
    const response = await fetch("/big");
    const digest = await crypto.subtle.digest("SHA-256", await response.arrayBuffer());
    return [[...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join(""), response.headers.get("x-sha256")];
  });
  assert.equal(sha256, wanted);
});

await check("an upload reports its progress and arrives whole", async () => {
  const [answer, steps] = await page.evaluate(() => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let steps = 0;
    request.upload.onprogress = () => steps++;
    request.onload = () => resolve([JSON.parse(request.responseText), steps]);
    request.onerror = () => reject(new Error("upload failed"));
    request.open("POST", "/upload");
    request.send(new Uint8Array(4 << 20).fill(7));
  }));
  const body = Buffer.alloc(4 << 20, 7);
  assert.deepEqual(answer, { size: body.length, sha256: createHash("sha256").update(body).digest("hex") });
  assert(steps > 0);
});

// open opens a WebSocket in the page and tells how it went: the app's first message and an echo, or the close event.
const open = (protocols) => page.evaluate((url, protocols) => new Promise((resolve) => {
  const socket = new WebSocket(url, protocols);
  let seen;
  socket.onmessage = ({ data }) => {
    if (seen === undefined) {
      seen = JSON.parse(data);
      socket.send("hello");
      return;
    }
    resolve({ seen, echo: data, protocol: socket.protocol });
    socket.close();
  };
  socket.onclose = ({ code, reason }) => resolve({ code, reason });
}), `wss://${vm.host}/socket`, protocols);

await page.setExtraHTTPHeaders({}); // from here on it is the page that has tokens

for (const [name, protocols, port, protocol] of [
  ["without a port", platform(vm.token), 8080, "lambda-microvms"],
  ["with a port", platform(vm.token, "lambda-microvms.port.9090"), 9090, "lambda-microvms"],
  ["with a subprotocol of the app's", platform(vm.token, "lambda-microvms.port.9090", "chat"), 9090, "chat"],
]) {
  await check(`a WebSocket ${name} wakes the microVM and echoes`, async () => {
    await suspend();
    const { seen, ...rest } = await open(protocols);
    assert.deepEqual(rest, { echo: "hello", protocol });
    assert.equal(seen.port, port);
    requireNothingOfThePlatform(seen);
  });
}

for (const [name, protocols] of [
  ["no token", ["lambda-microvms"]],
  ["no marker", platform(vm.token).slice(1)],
  ["another microVM's token", platform(vm.other)],
  ["a token for another port", platform(vm.narrow, "lambda-microvms.port.9090")],
]) {
  await check(`a WebSocket with ${name} closes with 1006`, async () => {
    assert.deepEqual(await open(protocols), { code: 1006, reason: "" });
  });
}
await browser.close();
done();
