// node build.mjs SOURCE.js OUTPUT.wasm: makes a component of a script. The WIT comes with the package
// @spinframework/wasi-http-proxy.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, output] = process.argv.slice(2);
const { component } = await componentize(await readFile(source, "utf8"), {
  sourceName: source,
  witPath: "node_modules/@spinframework/wasi-http-proxy/wit",
  worldName: "http-trigger",
});
await writeFile(output, component);
