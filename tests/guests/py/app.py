"""A wasi:http component in Python, on the bindings of the wasi:http/proxy world and of Spin's stores."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import key_value, sqlite, types
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        uri = request.path_with_query() or "/"
        match uri.partition("?")[0]:
            case "/":
                send(response_out, 200, "text/plain", [b"Hello from Python\n"])
            case "/echo":
                send(response_out, 200, "application/octet-stream", body_of(request))
            case "/headers":
                send(response_out, 200, "text/plain", listing(request, uri))
            case "/sqlite":
                send(response_out, *told(lambda: (200, query(b"".join(body_of(request)).decode()))))
            case path if path.startswith("/kv/"):
                send(response_out, *told(lambda: keep(request, path.removeprefix("/kv/"))))
            case _:
                send(response_out, 404, "text/plain", [b"not found\n"])


def told(answer):
    """What `answer` returns, or the error of the store that it raises."""
    try:
        status, body = answer()
    except Err as error:
        status, body = 502, f"{type(error.value).__name__}\n".encode()
    return status, "text/plain", [body]


def keep(request, key):
    store = key_value.Store.open("default")
    match request.method():
        case types.Method_Put():
            store.set(key, b"".join(body_of(request)))
            return 201, f"{','.join(store.get_keys())}\n".encode()
        case types.Method_Delete():
            store.delete(key)
            return 200, f"{str(store.exists(key)).lower()}\n".encode()
        case _:
            value = store.get(key)
            return (404, b"no such key\n") if value is None else (200, value)


def query(statement):
    """The columns and rows that a statement gives, as lines."""
    result = sqlite.Connection.open("default").execute(statement, [])
    rows = [[str(getattr(value, "value", "null")) for value in row.values] for row in result.rows]
    return "".join(",".join(line) + "\n" for line in [result.columns, *rows]).encode()


def listing(request, uri):
    method = request.method()
    name = method.value if isinstance(method, types.Method_Other) else type(method).__name__.removeprefix("Method_").upper()
    yield f"{name} {uri}\n".encode()
    for header, value in request.headers().entries():
        yield header.encode() + b": " + value + b"\n"


def body_of(request):
    """The request's body, block by block, as it arrives."""
    with request.consume() as body, body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(4096)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise


def send(response_out, status, content_type, blocks):
    response = OutgoingResponse(Fields.from_list([("content-type", content_type.encode())]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(response_out, Ok(response))
    with body.write() as stream:
        for block in blocks:
            for start in range(0, len(block), 4096):  # the most that one call takes
                stream.blocking_write_and_flush(block[start : start + 4096])
    OutgoingBody.finish(body, None)
