/*
 * The HTTP interface of Spin 0.4 to 1.4, before components: the host puts a request into the
 * guest's memory, calls `handle-http-request`, and reads the response at the address it returns.
 */
typedef struct {
  const void *ptr;
  unsigned len;
} text;

typedef struct {
  text name, value;
} header;

typedef struct {
  unsigned short status;
  unsigned has_headers;
  const header *headers;
  unsigned header_count;
  unsigned has_body;
  text body;
} response;

#define TEXT(literal) {literal, sizeof(literal) - 1}

/* Where the host puts the request. An instance serves one request, so nothing is freed. */
__attribute__((export_name("canonical_abi_realloc")))
void *reallocate(void *old, unsigned old_len, unsigned align, unsigned new_len) {
  static unsigned char arena[1 << 20] __attribute__((aligned(16)));
  static unsigned used;
  (void)old, (void)old_len;
  used = (used + align - 1) & ~(align - 1);
  if (new_len > sizeof arena - used) __builtin_trap();
  used += new_len;
  return arena + used - new_len;
}

__attribute__((export_name("canonical_abi_free")))
void release(void *ptr, unsigned len, unsigned align) {
  (void)ptr, (void)len, (void)align;
}

__attribute__((export_name("handle-http-request")))
const response *handle(unsigned method, const char *uri, unsigned uri_len, const header *headers,
                       unsigned header_count, const header *params, unsigned param_count,
                       unsigned has_body, const char *body, unsigned body_len) {
  static const header content_type = {TEXT("content-type"), TEXT("text/plain")};
  static const response hello = {200, 1, &content_type, 1, 1, TEXT("Hello from the past\n")};
  (void)method, (void)uri, (void)uri_len, (void)headers, (void)header_count, (void)params;
  (void)param_count, (void)has_body, (void)body, (void)body_len;
  return &hello;
}
