/*
 * The legacy Spin HTTP ABI, written by hand: no libc, no generated bindings.
 *
 * Built twice. The host and the guest of that time agreed on the arguments, but the layout of the
 * result changed between Spin v0.3 and v0.4, and nothing in a module says which one it uses:
 *   legacy-c.wasm      Spin v0.4 to v1.4, the "canonical" layout  (default)
 *   legacy-slots.wasm  Spin v0.1 to v0.3, one 8-byte slot a value (-DSLOTS)
 *
 * What each path does is listed in ../README.md.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define EXPORT(name) __attribute__((export_name(name), used))
#define PAGE 65536u

/* ---- memory: a bump allocator; an instance serves one request, so nothing is ever freed ---- */

extern u8 __heap_base;
static u32 heap_top;

static void *allocate(u32 size, u32 align) {
  if (heap_top == 0) heap_top = (u32)&__heap_base;
  u32 start = (heap_top + align - 1) & ~(align - 1);
  u32 end = start + size;
  if (end < start) __builtin_trap();
  u32 have = (u32)__builtin_wasm_memory_size(0) * PAGE;
  if (end > have) {
    u32 pages = (end - have + PAGE - 1) / PAGE;
    if (__builtin_wasm_memory_grow(0, pages) == (unsigned long)-1) __builtin_trap();
  }
  heap_top = end;
  return (void *)start;
}

static void copy(u8 *to, const u8 *from, u32 size) { __builtin_memcpy(to, from, size); }

EXPORT("canonical_abi_realloc")
void *canonical_abi_realloc(u8 *old, u32 old_size, u32 align, u32 new_size) {
  u8 *fresh = allocate(new_size, align);
  if (old_size != 0) copy(fresh, old, old_size < new_size ? old_size : new_size);
  return fresh;
}

EXPORT("canonical_abi_free")
void canonical_abi_free(u8 *ptr, u32 size, u32 align) { (void)ptr, (void)size, (void)align; }

/* ---- strings ---- */

typedef struct { const u8 *ptr; u32 len; } text;
typedef struct { text name, value; } field; /* 16 bytes, aligned to 4: as the ABI wants it */

#define TEXT(literal) ((text){(const u8 *)(literal), sizeof(literal) - 1})

static int equal(text a, text b) {
  if (a.len != b.len) return 0;
  for (u32 i = 0; i < a.len; i++)
    if (a.ptr[i] != b.ptr[i]) return 0;
  return 1;
}

static int starts_with(text whole, text start) {
  return whole.len >= start.len && equal((text){whole.ptr, start.len}, start);
}

static int ends_with(text whole, text end) {
  return whole.len >= end.len && equal((text){whole.ptr + whole.len - end.len, end.len}, end);
}

/* The decimal number after `start`; text that is no number counts as 0. */
static u32 number_after(text whole, text start) {
  u32 number = 0;
  for (u32 i = start.len; i < whole.len && whole.ptr[i] >= '0' && whole.ptr[i] <= '9'; i++)
    number = number * 10 + (whole.ptr[i] - '0');
  return number;
}

static text join(text a, text b) {
  u8 *ptr = allocate(a.len + b.len, 1);
  copy(ptr, a.ptr, a.len);
  copy(ptr + a.len, b.ptr, b.len);
  return (text){ptr, a.len + b.len};
}

/* ---- the result ---- */

#ifdef SLOTS
typedef struct { u32 value, unused; } cell;
typedef cell small, wide, tag;
#define SET(to, from) ((to).value = (u32)(from))
#else
typedef u16 small;
typedef u32 wide;
typedef u8 tag;
#define SET(to, from) ((to) = (__typeof__(to))(from))
#endif

typedef struct {
  small status;
  _Alignas(4) tag has_fields;
  _Alignas(4) wide fields;
  wide field_count;
  tag has_body;
  _Alignas(4) wide body;
  wide body_len;
} response;

#ifdef SLOTS
_Static_assert(sizeof(response) == 56, "seven slots of eight bytes");
#else
_Static_assert(__builtin_offsetof(response, has_fields) == 4, "option at 4");
_Static_assert(__builtin_offsetof(response, fields) == 8, "list at 8");
_Static_assert(__builtin_offsetof(response, has_body) == 16, "option at 16");
_Static_assert(__builtin_offsetof(response, body) == 20 && sizeof(response) == 28, "list at 20");
#endif

static response *answer(u32 status) {
  response *r = allocate(sizeof *r, 8);
  *r = (response){0};
  SET(r->status, status);
  return r;
}

static response *with_fields(response *r, const field *fields, u32 count) {
  SET(r->has_fields, 1);
  SET(r->fields, fields);
  SET(r->field_count, count);
  return r;
}

static response *with_body(response *r, text body) {
  SET(r->has_body, 1);
  SET(r->body, body.ptr);
  SET(r->body_len, body.len);
  return r;
}

static response *plain(u32 status, text body) {
  static const field content_type[] = {{TEXT("content-type"), TEXT("text/plain")}};
  return with_body(with_fields(answer(status), content_type, 1), body);
}

/* ---- the request ---- */

typedef struct {
  u32 method;
  text uri;
  const field *fields;
  u32 field_count;
  text body;
} request;

static text field_of(const request *q, text name) {
  for (u32 i = 0; i < q->field_count; i++)
    if (equal(q->fields[i].name, name)) return q->fields[i].value;
  return (text){0};
}

/* The path below the component's route; without a route header, the path of the URI. */
static text path_of(const request *q) {
  text rest = field_of(q, TEXT("spin-path-info"));
  if (rest.len != 0) return rest;
  if (ends_with(field_of(q, TEXT("spin-matched-route")), TEXT("/..."))) return TEXT("/");
  u32 len = 0;
  while (len < q->uri.len && q->uri.ptr[len] != '?') len++;
  return (text){q->uri.ptr, len};
}

static text listing(const request *q) {
  static const char *const methods[] = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"};
  const char *name = q->method < 7 ? methods[q->method] : "?";
  u32 len = 0;
  while (name[len]) len++;
  text out = join(join((text){(const u8 *)name, len}, TEXT(" ")), join(q->uri, TEXT("\n")));
  for (u32 i = 0; i < q->field_count; i++)
    out = join(join(out, q->fields[i].name),
               join(TEXT(": "), join(q->fields[i].value, TEXT("\n"))));
  return out;
}

static text letters(u32 count) {
  u8 *ptr = allocate(count, 1);
  __builtin_memset(ptr, 'x', count);
  return (text){ptr, count};
}

/* ---- faults ---- */

static volatile u32 sink;

static void loop_forever(void) {
  for (;;) sink++;
}

static u32 recurse(u32 depth) {
  sink = depth;
  if (sink != depth) return 0;
  return recurse(depth + 1) + sink;
}

static void eat_memory(void) {
  for (;;) letters(1u << 20);
}

/* Results that a host must not trust. */
static response *malformed(text path) {
  static const field not_utf8[] = {{TEXT("x-bad"), TEXT("\xff\xfe")}};
  static const field bad_name[] = {{TEXT("no spaces here"), TEXT("x")}};
  static const field bad_value[] = {{TEXT("x-bad"), TEXT("a\r\nb: c")}};
  static const field ok[] = {{TEXT("x-ok"), TEXT("yes")}};
  if (equal(path, TEXT("/bad/ptr"))) return with_fields(answer(200), (const field *)0xfffffff0, 1);
  if (equal(path, TEXT("/bad/len"))) return with_fields(answer(200), ok, 0x10000000);
  if (equal(path, TEXT("/bad/body"))) return with_body(answer(200), (text){(const u8 *)64, 0xffffffff});
  if (equal(path, TEXT("/bad/ret"))) return (response *)0xfffffff8;
  if (equal(path, TEXT("/bad/utf8"))) return with_fields(answer(200), not_utf8, 1);
  if (equal(path, TEXT("/bad/name"))) return with_fields(answer(200), bad_name, 1);
  if (equal(path, TEXT("/bad/value"))) return with_fields(answer(200), bad_value, 1);
  return plain(404, TEXT("no such fault\n"));
}

static response *respond(const request *q) {
  static const field cookies[] = {{TEXT("set-cookie"), TEXT("a=1")}, {TEXT("set-cookie"), TEXT("b=2")}};
  text path = path_of(q);
  if (equal(path, TEXT("/"))) return plain(200, TEXT("Hello from legacy C\n"));
  if (equal(path, TEXT("/echo"))) return with_body(answer(200), q->body);
  if (equal(path, TEXT("/headers"))) return plain(200, listing(q));
  if (equal(path, TEXT("/cookies"))) return with_fields(answer(200), cookies, 2);
  if (starts_with(path, TEXT("/status/"))) return answer(number_after(path, TEXT("/status/")));
  if (starts_with(path, TEXT("/big/")))
    return with_body(answer(200), letters(number_after(path, TEXT("/big/"))));
  if (equal(path, TEXT("/trap"))) __builtin_trap();
  if (equal(path, TEXT("/loop"))) loop_forever();
  if (equal(path, TEXT("/recurse"))) recurse(0);
  if (equal(path, TEXT("/oom"))) eat_memory();
  if (starts_with(path, TEXT("/bad/"))) return malformed(path);
  return plain(404, TEXT("not found\n"));
}

EXPORT("handle-http-request")
response *handle_http_request(u32 method, const u8 *uri, u32 uri_len, const field *fields, u32 field_count,
                              const field *params, u32 param_count, u32 has_body, const u8 *body,
                              u32 body_len) {
  (void)params, (void)param_count;
  request q = {method, {uri, uri_len}, fields, field_count, {body, has_body ? body_len : 0}};
  return respond(&q);
}
