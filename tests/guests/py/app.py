"""A wasi:http component in Python, on the bindings of the wasi:http/proxy world alone."""

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import types
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
            case _:
                send(response_out, 404, "text/plain", [b"not found\n"])


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
