// Checks an AsyncAPI document with the official parser: node scripts/check_asyncapi.mjs FILE
// The parser is not part of the project; `make asyncapi` puts it into .node.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const folder = process.env.ASYNCAPI_NODE ?? new URL("../.node/", import.meta.url).pathname;
const { Parser } = createRequire(`${folder}/`)("@asyncapi/parser");
const diagnostics = await new Parser().validate(await readFile(process.argv[2], "utf8"));
const names = ["error", "warning", "information", "hint"];
for (const found of diagnostics) {
  console.log(`${names[found.severity]} ${found.code} at ${found.path.join("/")}: ${found.message}`);
}
process.exitCode = diagnostics.some((found) => found.severity <= 1) ? 1 : 0;
