/* A core module that is no HTTP handler of any kind: neither `_start` nor `handle-http-request`. */
__attribute__((export_name("answer"))) int answer(void) { return 42; }
