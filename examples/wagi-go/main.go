// A Wagi component in Go: any WASI program that reads its request like a CGI script.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
)

func main() {
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprint(out, "content-type: text/plain\n\n")
	fmt.Fprintln(out, "Hello from Wagi Go")

	for index, argument := range os.Args {
		fmt.Fprintf(out, "arg[%d]=%s\n", index, argument)
	}
	environment := os.Environ()
	slices.Sort(environment)
	for _, variable := range environment {
		fmt.Fprintln(out, variable)
	}

	fmt.Fprint(out, "body=")
	_, err := io.Copy(out, os.Stdin)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no answer:", err)
		os.Exit(1)
	}
}
