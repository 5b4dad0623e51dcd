// A wasi:http component in JavaScript, in the way of service workers.

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
    default:
      return text(404, "not found\n");
  }
}

function text(status, body) {
  return new Response(body, { status, headers: { "content-type": "text/plain" } });
}
