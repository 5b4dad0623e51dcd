// A wasi:http component in JavaScript, in the way of service workers.

import { Store } from "fermyon:spin/key-value@2.0.0";
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
    default:
      if (pathname.startsWith("/kv/")) return told(() => keyValue(request, pathname.slice("/kv/".length)));
      return text(404, "not found\n");
  }
}

// What `answer` returns, or the error of the store that it throws.
async function told(answer) {
  try {
    return await answer();
  } catch (error) {
    return text(502, `${error.payload?.tag ?? error}\n`);
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

function text(status, body) {
  return new Response(body, { status, headers: { "content-type": "text/plain" } });
}
