/*
 * A wasi:http@0.2.0 component in C, without generated bindings and without libc: the canonical ABI
 * of the few functions it needs is declared here by hand. http.wit is the other half of that
 * contract; the linker puts it into the component. The result is a component of a few kilobytes.
 *
 * Paths: `/` hello, `/echo` the request body, `/headers` the request, `/status/NNN`.
 */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

/* An unsized int: the index of a resource in this instance's table. */
typedef u32 handle;

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define TYPES(name) IMPORT("wasi:http/types@0.2.0", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.0", name)
#define EXPORT(name) __attribute__((export_name(name), used))

/* ---- imports: a result wider than one value comes back through the last pointer ---- */

typedef struct { u8 *ptr; u32 len; } text;
typedef struct { text name, value; } field;
typedef struct { const field *ptr; u32 len; } field_list;
typedef struct { u8 is_err; handle value; } handle_result;
typedef struct { u8 is_err; _Alignas(4) u8 error; handle cause; } write_result;
typedef struct { u8 is_err; _Alignas(8) u64 moved; } splice_result; /* an error sits where `moved` is */
typedef struct { u8 is_some; text value; } text_option;
typedef struct { u8 tag; text other; } method;
typedef struct { _Alignas(8) u8 bytes[64]; } finish_result; /* as wide as the widest error-code, and more */

TYPES("[constructor]fields") handle fields_new(void);
TYPES("[method]fields.append")
void fields_append(handle self, const void *name, u32 name_len, const void *value, u32 value_len, u8 out[2]);
TYPES("[method]fields.entries") void fields_entries(handle self, field_list *out);
TYPES("[resource-drop]fields") void fields_drop(handle self);
TYPES("[method]incoming-request.method") void request_method(handle self, method *out);
TYPES("[method]incoming-request.path-with-query") void request_path(handle self, text_option *out);
TYPES("[method]incoming-request.headers") handle request_headers(handle self);
TYPES("[method]incoming-request.consume") void request_consume(handle self, handle_result *out);
TYPES("[resource-drop]incoming-request") void request_drop(handle self);
TYPES("[method]incoming-body.stream") void incoming_stream(handle self, handle_result *out);
TYPES("[resource-drop]incoming-body") void incoming_drop(handle self);
TYPES("[constructor]outgoing-response") handle response_new(handle fields);
TYPES("[method]outgoing-response.set-status-code") u32 response_set_status(handle self, u32 status);
TYPES("[method]outgoing-response.body") void response_body(handle self, handle_result *out);
TYPES("[method]outgoing-body.write") void outgoing_write(handle self, handle_result *out);
TYPES("[static]outgoing-body.finish")
void outgoing_finish(handle self, u32 has_trailers, handle trailers, finish_result *out);
/* result<outgoing-response, error-code>, flattened: seven values for the widest error. */
TYPES("[static]response-outparam.set")
void outparam_set(handle self, u32 is_err, u32 response, u32, u64, u32, u32, u32, u32);
STREAMS("[method]output-stream.blocking-write-and-flush")
void stream_write(handle self, const void *ptr, u32 len, write_result *out);
STREAMS("[method]output-stream.blocking-splice")
void stream_splice(handle self, handle from, u64 len, splice_result *out);
STREAMS("[resource-drop]output-stream") void output_drop(handle self);
STREAMS("[resource-drop]input-stream") void input_drop(handle self);
IMPORT("wasi:io/error@0.2.0", "[resource-drop]error") void error_drop(handle self);

/* ---- memory: a bump allocator; an instance serves one request, so nothing is ever freed ---- */

extern u8 __heap_base;
static u32 heap_top;

EXPORT("cabi_realloc")
void *cabi_realloc(u8 *old, u32 old_size, u32 align, u32 new_size) {
  if (heap_top == 0) heap_top = (u32)&__heap_base;
  u32 start = (heap_top + align - 1) & ~(align - 1), end = start + new_size;
  u32 have = (u32)__builtin_wasm_memory_size(0) << 16;
  if (end < start) __builtin_trap();
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 0xffff) >> 16) == (unsigned long)-1) __builtin_trap();
  heap_top = end;
  u8 *fresh = (u8 *)start;
  if (old_size) __builtin_memcpy(fresh, old, old_size < new_size ? old_size : new_size);
  return fresh;
}

/* ---- strings ---- */

#define TEXT(literal) ((text){(u8 *)(literal), sizeof(literal) - 1})

static int starts_with(text whole, text start) {
  if (whole.len < start.len) return 0;
  for (u32 i = 0; i < start.len; i++)
    if (whole.ptr[i] != start.ptr[i]) return 0;
  return 1;
}

static int equal(text a, text b) { return a.len == b.len && starts_with(a, b); }

/* ---- the response ---- */

typedef struct { handle body, stream; int broken; } writer;

/* Sends status and headers; the body follows through the writer. Errors end the instance. */
static writer start_response(handle outparam, u32 status, int with_type) {
  handle headers = fields_new();
  u8 appended[2] = {0};
  text name = TEXT("content-type"), value = TEXT("text/plain");
  if (with_type) fields_append(headers, name.ptr, name.len, value.ptr, value.len, appended);
  handle response = response_new(headers);
  handle_result body, stream;
  if (appended[0] || response_set_status(response, status)) __builtin_trap();
  response_body(response, &body);
  if (body.is_err) __builtin_trap();
  outgoing_write(body.value, &stream);
  if (stream.is_err) __builtin_trap();
  outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
  return (writer){body.value, stream.value, 0};
}

/* The host accepts at most 4096 bytes a call. A caller that went away is no error of ours. */
static void put(writer *to, text bytes) {
  enum { LIMIT = 4096, FAILED = 0 };
  while (bytes.len && !to->broken) {
    u32 part = bytes.len < LIMIT ? bytes.len : LIMIT;
    write_result result;
    stream_write(to->stream, bytes.ptr, part, &result);
    if (result.is_err) {
      to->broken = 1;
      if (result.error == FAILED) error_drop(result.cause);
    }
    bytes.ptr += part, bytes.len -= part;
  }
}

static void finish(writer *to) {
  finish_result ignored;
  output_drop(to->stream);
  outgoing_finish(to->body, 0, 0, &ignored);
}

/* ---- what the paths do ---- */

static void echo(handle request, writer *to) {
  enum { FAILED = 0 };
  handle_result body, stream;
  request_consume(request, &body);
  if (body.is_err) __builtin_trap();
  incoming_stream(body.value, &stream);
  if (stream.is_err) __builtin_trap();
  for (;;) {
    splice_result result;
    stream_splice(to->stream, stream.value, ~0ull, &result);
    if (!result.is_err) continue;
    if ((u8)result.moved == FAILED) error_drop((handle)(result.moved >> 32));
    break;
  }
  input_drop(stream.value);
  incoming_drop(body.value);
}

static text method_name(const method *m) {
  switch (m->tag) {
    case 0: return TEXT("GET");
    case 1: return TEXT("HEAD");
    case 2: return TEXT("POST");
    case 3: return TEXT("PUT");
    case 4: return TEXT("DELETE");
    case 5: return TEXT("CONNECT");
    case 6: return TEXT("OPTIONS");
    case 7: return TEXT("TRACE");
    case 8: return TEXT("PATCH");
    default: return m->other;
  }
}

static void list(handle request, text uri, writer *to) {
  method m;
  field_list fields;
  handle headers = request_headers(request);
  request_method(request, &m);
  fields_entries(headers, &fields);
  put(to, method_name(&m)), put(to, TEXT(" ")), put(to, uri), put(to, TEXT("\n"));
  for (u32 i = 0; i < fields.len; i++)
    put(to, fields.ptr[i].name), put(to, TEXT(": ")), put(to, fields.ptr[i].value), put(to, TEXT("\n"));
  fields_drop(headers);
}

static u32 status_of(text path) {
  u32 status = 0;
  for (u32 i = sizeof("/status/") - 1; i < path.len; i++) status = status * 10 + (path.ptr[i] - '0');
  return status;
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle")
void handle_request(handle request, handle outparam) {
  text_option uri;
  request_path(request, &uri);
  text target = uri.is_some ? uri.value : TEXT("/"), path = target;
  for (u32 i = 0; i < path.len; i++)
    if (path.ptr[i] == '?') path.len = i;

  writer to;
  if (equal(path, TEXT("/"))) {
    to = start_response(outparam, 200, 1);
    put(&to, TEXT("Hello from C\n"));
  } else if (equal(path, TEXT("/echo"))) {
    to = start_response(outparam, 200, 0);
    echo(request, &to);
  } else if (equal(path, TEXT("/headers"))) {
    to = start_response(outparam, 200, 1);
    list(request, target, &to);
  } else if (starts_with(path, TEXT("/status/"))) {
    to = start_response(outparam, status_of(path), 0);
  } else {
    to = start_response(outparam, 404, 1);
    put(&to, TEXT("not found\n"));
  }
  finish(&to);
  request_drop(request);
}
