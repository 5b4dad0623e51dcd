// node build.mjs SOURCE.js OUTPUT.wasm: makes a component of a script, by the world of guest.wit. The WIT of HTTP comes with
// the package @spinframework/wasi-http-proxy, that of stores is stores.wit.
import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const [source, output] = process.argv.slice(2);
await mkdir("wit/deps/http", { recursive: true });
await mkdir("wit/deps/stores", { recursive: true });
await cp("node_modules/@spinframework/wasi-http-proxy/wit", "wit/deps/http", { recursive: true });
await cp("stores.wit", "wit/deps/stores/stores.wit");
await cp("guest.wit", "wit/guest.wit");
const { component } = await componentize(await readFile(source, "utf8"), {
  sourceName: source,
  witPath: "wit",
  worldName: "guest",
});
await writeFile(output, component);
