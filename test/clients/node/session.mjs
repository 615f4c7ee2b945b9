// What the programs here share: they read one line of JSON about the microVM, and write one for each promise they checked.
//   in:  {"named", "issuer", "host", "hostname", "ca", "token", "narrow", "other"}, as host_test.go says
//   out: {"check": "…", "error": ""} …, {"done": true}
//        {"suspend": true} asks for the microVM to be suspended; a line comes back when it sleeps.
import assert from "node:assert/strict";
import { createInterface } from "node:readline";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

export const vm = JSON.parse((await lines.next()).value);
export const origin = `https://${vm.host}`;
export const authenticated = { "x-aws-proxy-auth": vm.token };
export const platform = (token, ...more) => ["lambda-microvms", `lambda-microvms.authentication.${token}`, ...more];

export async function suspend() {
  say({ suspend: true });
  await lines.next();
}

export async function check(name, promise) {
  try {
    await promise();
    say({ check: name, error: "" });
  } catch (error) {
    say({ check: name, error: String(error.stack ?? error) });
  }
}

export function done() {
  say({ done: true });
  process.exit(0);
}

// requireNothingOfThePlatform fails if the app saw a token or anything else that is between client and endpoint.
export function requireNothingOfThePlatform({ headers }) {
  for (const [name, value] of headers) {
    assert(!name.startsWith("x-aws-proxy-"), name);
    assert(!value.includes(vm.token), name);
    assert(!value.includes("lambda-microvms"), `${name}: ${value}`);
  }
}
