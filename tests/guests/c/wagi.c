/*
 * A Wagi guest: a WASI command that reads a request from its arguments, environment and standard
 * input, and writes a CGI response. What each PATH_INFO does is listed in ../README.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static int by_text(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_environment(void) {
  size_t count = 0;
  while (environ && environ[count]) count++;
  if (count) qsort(environ, count, sizeof *environ, by_text);
  for (size_t i = 0; i < count; i++) printf("%s\n", environ[i]);
}

static void copy_body(void) {
  char buffer[4096];
  size_t got;
  while ((got = fread(buffer, 1, sizeof buffer, stdin)) > 0) fwrite(buffer, 1, got, stdout);
}

static void dump(int argc, char **argv) {
  printf("content-type: text/plain\n\n");
  for (int i = 0; i < argc; i++) printf("arg[%d]=%s\n", i, argv[i]);
  print_environment();
  printf("body=");
  copy_body();
}

int main(int argc, char **argv) {
  const char *path = getenv("PATH_INFO");
  if (!path) path = "";
  if (!strcmp(path, "/status")) {
    printf("status: 418 teapot\ncontent-type: text/plain\n\nshort and stout\n");
  } else if (!strcmp(path, "/location")) {
    printf("location: /elsewhere\n\n");
  } else if (!strcmp(path, "/empty")) {
    return 0;
  } else if (!strcmp(path, "/exit")) {
    printf("content-type: text/plain\n\nthis must not be served\n");
    fflush(stdout);
    exit(3);
  } else if (!strcmp(path, "/dup")) {
    printf("content-type: text/plain\nset-cookie: a=1\nset-cookie: b=2\n\ntwo cookies\n");
  } else if (!strcmp(path, "/nohdr")) {
    printf("x-other: yes\n\nneither content-type, status nor location\n");
  } else if (!strcmp(path, "/crlf")) {
    printf("content-type: text/plain\r\nx-line: crlf\r\n\r\nkept\r\n");
  } else if (!strcmp(path, "/badstatus")) {
    printf("status: teapot\ncontent-type: text/plain\n\n");
  } else if (!strcmp(path, "/stderr")) {
    fprintf(stderr, "a line on stderr\n");
    printf("content-type: text/plain\n\nlogged\n");
  } else if (!strcmp(path, "/echo")) {
    printf("content-type: application/octet-stream\n\n");
    copy_body();
  } else if (!strcmp(path, "/trap")) {
    __builtin_trap();
  } else if (!strcmp(path, "/loop")) {
    for (volatile unsigned i = 0;; i++) {
    }
  } else {
    dump(argc, argv);
  }
  return 0;
}
