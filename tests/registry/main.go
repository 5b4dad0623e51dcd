// Command registry is an OCI registry in memory, for tests: google/go-containerregistry's, behind what makes it one of
// component packages (the well-known document) and, if asked, behind a password.
//
// It prints its address, and ends when its standard input does.
package main

import (
	"crypto/subtle"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	wellKnown := flag.String("well-known", "", "what /.well-known/wasm-pkg/registry.json says; nothing if empty")
	credentials := flag.String("credentials", "", "user:password that every request needs; none if empty")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	handler := http.NewServeMux()
	handler.HandleFunc("/.well-known/wasm-pkg/registry.json", func(w http.ResponseWriter, _ *http.Request) {
		if *wellKnown == "" {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, *wellKnown)
	})
	handler.Handle("/", guarded(registry.New(registry.Logger(log.New(io.Discard, "", 0))), *credentials))
	log.Fatal(http.Serve(listener, handler))
}

// guarded asks for credentials, as registries with a password file do.
func guarded(next http.Handler, credentials string) http.Handler {
	if credentials == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if subtle.ConstantTimeCompare([]byte(user+":"+password), []byte(credentials)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}
