package cluster

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"time"

	"spindle.dev/tests/cluster/internal/netns"
)

// forward carries every connection that a listener accepts to an address inside the network
// namespace, bytes only: TLS, upgrades and half-closed connections pass unchanged.
func forward(listener net.Listener, netnsFD int, address string) {
	for {
		outer, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			log.Printf("proxy to %s: %v", address, err)
			time.Sleep(50 * time.Millisecond) // for example out of descriptors
			continue
		}
		go func() {
			defer outer.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			inner, err := netns.Dial(ctx, netnsFD, "tcp", address)
			if err != nil {
				return // the client sees the connection end, as it would without the proxy
			}
			defer inner.Close()
			join(outer.(*net.TCPConn), inner.(*net.TCPConn))
		}()
	}
}

// join copies both ways until both sides have ended.
func join(a, b *net.TCPConn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(a, b)
		_ = a.CloseWrite()
	}()
	_, _ = io.Copy(b, a)
	_ = b.CloseWrite()
	<-done
}
