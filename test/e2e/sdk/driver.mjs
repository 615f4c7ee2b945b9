// Calls the AWS SDK for whoever writes requests to stdin, one JSON object per line:
//   {"id": 1, "service": "lambda-microvms", "command": "RunMicrovm", "input": {…}, "config": {…}}
// and answers on stdout, in the order in which the calls end:
//   {"id": 1, "output": {…}} or {"id": 1, "error": {"name", "message", "status", "members"}}
// Endpoints, keys and region come from the environment, as for any program that uses the SDK;
// config, which may be left out, overrides them for one call. With "pageSize" the SDK's paginator
// makes the call, and the output is {"pages": […]}. An error of what
// was not even sent has status 0, and one that is not about a response has -1.

import * as microvms from "@aws-sdk/client-lambda-microvms";
import * as s3 from "@aws-sdk/client-s3";
import { createInterface } from "node:readline";

const services = {
  "lambda-microvms": { sdk: microvms, Client: microvms.LambdaMicrovmsClient },
  s3: { sdk: s3, Client: s3.S3Client },
};

const clients = new Map(); // by service and config

function clientOf(service, config) {
  const key = JSON.stringify([service, config]);
  if (!clients.has(key)) {
    clients.set(key, new services[service].Client(config));
  }
  return clients.get(key);
}

// JSON has no bytes: {"$base64": "…"} stands for them.
function withBytes(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(withBytes);
  if ("$base64" in value) return Buffer.from(value.$base64, "base64");
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, withBytes(member)]));
}

async function call({ service, command, input, config = {}, pageSize }) {
  const { sdk } = services[service];
  const client = clientOf(service, config);
  if (pageSize !== undefined) {
    const pages = [];
    for await (const page of sdk[`paginate${command}`]({ client, pageSize }, input)) pages.push(page);
    return { pages };
  }
  const output = await client.send(new sdk[`${command}Command`](withBytes(input)));
  if (output.Body) output.Body = await output.Body.transformToString("base64");
  return output;
}

function explain(error) {
  const { name, message, $metadata, $fault, $service, $response, $retryable, ...members } = error;
  return { name, message, status: $metadata ? ($metadata.httpStatusCode ?? -1) : 0, members };
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  call(request)
    .then((output) => ({ id: request.id, output }), (error) => ({ id: request.id, error: explain(error) }))
    .then((answer) => process.stdout.write(JSON.stringify(answer) + "\n"));
}
