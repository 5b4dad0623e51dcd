package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"spindle.dev/tests/cluster/internal/image"
)

// controlSocket is the supervisor's socket in the state directory.
const controlSocket = "control.sock"

// socketPath reaches a socket in a directory whose own path may be too long for a Unix address.
// The function that it returns ends the validity of the path.
func socketPath(dir, name string) (string, func(), error) {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", dir, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, name), func() { _ = unix.Close(fd) }, nil
}

// control answers the commands on the control socket.
func (s *supervisor) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /components/{name}/{verb}", s.handleComponent)
	mux.HandleFunc("GET /components", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, s.components())
	})
	mux.HandleFunc("GET /images", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, s.loadedImages())
	})
	mux.HandleFunc("PUT /images/{digest}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.importImage(r.Body, r.PathValue("digest"), r.URL.Query()["name"]); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

func (s *supervisor) handleComponent(w http.ResponseWriter, r *http.Request) {
	c, ok := s.byName[r.PathValue("name")]
	if !ok {
		http.Error(w, fmt.Sprintf("no component %q; there are: %s", r.PathValue("name"), strings.Join(s.names(), " ")), http.StatusNotFound)
		return
	}
	var err error
	switch r.PathValue("verb") {
	case "stop":
		err = c.stop(20 * time.Second)
	case "kill":
		err = c.stop(0)
	case "start":
		err = s.startAndWait(r.Context(), c)
	case "restart":
		if err = c.stop(20 * time.Second); err == nil {
			err = s.startAndWait(r.Context(), c)
		}
	default:
		http.Error(w, "no such verb", http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *supervisor) startAndWait(ctx context.Context, c *component) error {
	if err := c.start(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return c.awaitReady(ctx)
}

func reply(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// ComponentState is one component as the supervisor sees it.
type ComponentState struct {
	Name    string `json:"name"`
	Running bool   `json:"running"`
	// PID is the process id inside the cluster's PID namespace.
	PID    int `json:"pid"`
	Starts int `json:"starts"`
}

// Client talks to the supervisor of a running cluster.
type Client struct {
	layout Layout
	http   *http.Client
}

// Connect returns a client for a cluster that is up.
func (l Layout) Connect() (*Client, error) {
	if _, err := l.Running(); err != nil {
		return nil, err
	}
	return &Client{layout: l, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			path, release, err := socketPath(l.Dir, controlSocket)
			if err != nil {
				return nil, err
			}
			defer release()
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}}}, nil
}

// call sends one request and decodes the answer into result unless that is nil.
func (c *Client) call(method, path string, body io.Reader, result any) error {
	request, err := http.NewRequest(method, "http://supervisor"+path, body)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.layout.Name, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("cluster %s: %s", c.layout.Name, bytes.TrimSpace(text))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(text, result)
}

// Components lists the components and whether they run.
func (c *Client) Components() (states []ComponentState, err error) {
	return states, c.call(http.MethodGet, "/components", nil, &states)
}

// StopComponent ends a component, gently or like a crash, and keeps it down.
func (c *Client) StopComponent(name string, kill bool) error {
	verb := "stop"
	if kill {
		verb = "kill"
	}
	return c.call(http.MethodPost, "/components/"+url.PathEscape(name)+"/"+verb, nil, nil)
}

// StartComponent starts a component and waits until it does its work.
func (c *Client) StartComponent(name string) error {
	return c.call(http.MethodPost, "/components/"+url.PathEscape(name)+"/start", nil, nil)
}

// RestartComponent ends a component gently, starts it and waits until it does its work again.
func (c *Client) RestartComponent(name string) error {
	return c.call(http.MethodPost, "/components/"+url.PathEscape(name)+"/restart", nil, nil)
}

// Load imports docker-archives into every node's containerd. A file whose every name already stands
// for this very content is left out. It reports each file by calling report.
func (c *Client) Load(files []string, report func(file string, names []string, loaded bool)) error {
	for _, file := range files {
		names, err := image.Names(file)
		if err != nil {
			return err
		}
		digest, err := image.Digest(file)
		if err != nil {
			return err
		}
		present := map[string]string{}
		if err := c.call(http.MethodGet, "/images", nil, &present); err != nil {
			return err
		}
		if holds(present, names, digest) {
			report(file, names, false)
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = c.call(http.MethodPut, "/images/"+digest+"?"+url.Values{"name": names}.Encode(), f, nil)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		report(file, names, true)
	}
	return nil
}

// holds tells whether every name stands for the archive with that digest.
func holds(present map[string]string, names []string, digest string) bool {
	for _, name := range names {
		if present[name] != digest {
			return false
		}
	}
	return len(names) > 0
}
