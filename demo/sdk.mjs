// One call of the AWS SDK for JavaScript: node sdk.mjs FOLDER PACKAGE OPERATION PARAMETERS [FILE]
// FILE becomes the Body. The answer goes to stdout as JSON, without the SDK's $metadata.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, name, operation, parameters, file] = process.argv.slice(2);
const sdk = createRequire(join(folder, "package.json"))(name);
const Client = sdk[name.endsWith("client-s3") ? "S3Client" : "LambdaMicrovmsClient"];
const input = JSON.parse(parameters);
if (file) input.Body = readFileSync(file);
try {
  const { $metadata, ...answer } = await new Client({ forcePathStyle: true }).send(new sdk[operation + "Command"](input));
  console.log(JSON.stringify(answer));
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
}
