// A wasi:http component in JavaScript, in the way of service workers.

import { Store } from "fermyon:spin/key-value@2.0.0";
import { Connection as MySql } from "fermyon:spin/mysql@2.0.0";
import { Connection as Postgres } from "fermyon:spin/postgres@2.0.0";
import { Connection as Redis } from "fermyon:spin/redis@2.0.0";
import { Connection } from "fermyon:spin/sqlite@2.0.0";

addEventListener("fetch", (event) => event.respondWith(respond(event.request)));

async function respond(request) {
  const { pathname, search } = new URL(request.url);
  switch (pathname) {
    case "/":
      return text(200, "Hello from JavaScript\n");
    case "/echo":
      return new Response(request.body, {
        headers: { "content-type": "application/octet-stream" },
      });
    case "/headers": {
      const lines = [`${request.method} ${pathname}${search}\n`];
      for (const [name, value] of request.headers) lines.push(`${name}: ${value}\n`);
      return text(200, lines.join(""));
    }
    case "/sqlite":
      return told(async () => text(200, query(await request.text())));
    case "/redis":
      return told(async () => text(200, redis(await request.text())));
    case "/postgres":
      return told(async () => text(200, statements(Postgres, await request.text())));
    case "/mysql":
      return told(async () => text(200, statements(MySql, await request.text())));
    default:
      if (pathname.startsWith("/kv/")) return told(() => keyValue(request, pathname.slice("/kv/".length)));
      return text(404, "not found\n");
  }
}

// What `answer` returns, or the error of the store or database that it throws.
async function told(answer) {
  try {
    return await answer();
  } catch (error) {
    const { tag = `${error}`, val } = error.payload ?? {};
    return text(502, `${val === undefined ? tag : `${tag}: ${val}`}\n`);
  }
}

async function keyValue(request, key) {
  const store = Store.open("default");
  switch (request.method) {
    case "PUT":
      store.set(key, new Uint8Array(await request.arrayBuffer()));
      return text(201, `${store.getKeys()}\n`);
    case "DELETE":
      store.delete(key);
      return text(200, `${store.exists(key)}\n`);
    default: {
      const value = store.get(key);
      return value === undefined ? text(404, "no such key\n") : new Response(value);
    }
  }
}

// The columns and rows that a statement gives, as lines.
function query(statement) {
  const { columns, rows } = Connection.open("default").execute(statement, []);
  const lines = rows.map(({ values }) => values.map(({ tag, val }) => val ?? tag).join(","));
  return [columns.join(","), ...lines, ""].join("\n");
}

// The body's lines are an address, a key and a value: what each kind of call returns.
function redis(body) {
  const [address, key, value] = body.split("\n");
  const connection = Redis.open(address);
  const none = `${key}:none`;
  connection.set(key, new TextEncoder().encode(value));
  const got = new TextDecoder().decode(connection.get(key));
  const missing = connection.get(none) ?? "none";
  connection.incr(`${key}:n`);
  const counted = connection.incr(`${key}:n`);
  const added = connection.sadd(`${key}:set`, ["a", "b"]);
  const members = connection.smembers(`${key}:set`).sort();
  const removed = connection.srem(`${key}:set`, ["a"]);
  connection.publish(key, new Uint8Array([0, 255]));
  const binary = (text) => ({ tag: "binary", val: new TextEncoder().encode(text) });
  const results = [
    ...connection.execute("PING", []),
    ...connection.execute("HSET", [binary(`${key}:hash`), binary("f"), { tag: "int64", val: 7n }]),
    ...connection.execute("HGETALL", [binary(`${key}:hash`)]),
    ...connection.execute("GET", [binary(none)]),
  ];
  const deleted = connection.del([key, `${key}:n`, `${key}:set`, `${key}:hash`]);
  return `${got}\n${missing} ${counted}\n${added} ${members} ${removed}\n${results.map(shown).join(" ")}\n${deleted}\n`;
}

// The body's lines are an address and statements, those after `!` without rows; parameters follow after tabs.
function statements(database, body) {
  const [address, ...lines] = body.split("\n");
  const connection = database.open(address);
  const told = [];
  for (const line of lines) {
    const [statement, ...given] = line.split("\t");
    const parameters = given.map(parameter);
    if (statement.startsWith("!")) {
      connection.execute(statement.slice(1), parameters);
      continue;
    }
    const { columns, rows } = connection.query(statement, parameters);
    told.push(columns.map(({ name, dataType }) => `${name} ${dataType}`).join(","));
    told.push(...rows.map((row) => row.map(shown).join(",")));
  }
  return told.map((line) => `${line}\n`).join("");
}

// A parameter: its kind, `:` and its value.
function parameter(text) {
  const value = text.slice(2);
  switch (text[0]) {
    case "i":
      return { tag: "int64", val: BigInt(value) };
    case "f":
      return { tag: "floating64", val: Number(value) };
    case "b":
      return { tag: "binary", val: new TextEncoder().encode(value) };
    case "n":
      return { tag: "db-null" };
    default:
      return { tag: "str", val: value };
  }
}

// A value of a database, with its kind; bytes in hexadecimal digits.
function shown({ tag, val }) {
  const kind = tag.replace("-", "");
  if (val === undefined) return kind;
  const digits = () => Array.from(val, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${kind}:${typeof val === "object" ? digits() : val}`;
}

function text(status, body) {
  return new Response(body, { status, headers: { "content-type": "text/plain" } });
}
