/* A Wagi component is a program: the request is its environment and standard input, the response
 * is what it prints - headers, an empty line, the body. */
#include <stdio.h>
#include <stdlib.h>

static const char *value_of(const char *name) {
  const char *value = getenv(name);
  return value ? value : "";
}

int main(void) {
  printf("content-type: text/plain\n\n");
  printf("Hello from Wagi C\n");
  printf("%s %s\n", value_of("REQUEST_METHOD"), value_of("X_FULL_URL"));
  return 0;
}
