package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"spindle.dev/tests/cluster/internal/image"
)

// Descriptors that `up` hands to the supervisor.
const (
	progressFD = 3 + iota
	controlFD
	apiFD
	ingressFD
	netnsFD // the first node's network namespace; the others' follow
)

// netns is the descriptor of the node's network namespace.
func (n node) netns() int { return netnsFD + int(n) - 1 }

// progressReady is the last progress line of a cluster that is up; a line with progressFailed in
// front is the last one of a cluster that won't be.
const (
	progressReady  = "READY"
	progressFailed = "FAILED "
)

// upTimeout bounds how long a cluster may take to come up on a busy machine.
const upTimeout = 5 * time.Minute

// supervisor is the first process of a cluster's PID namespace.
type supervisor struct {
	layout   Layout
	nodes    []node
	reaper   *reaper
	env      []string
	order    []*component
	byName   map[string]*component
	probe    probe
	progress *os.File
	began    time.Time

	images sync.Mutex
	loaded map[string]string // reference -> SHA-256 of the archive it came from
}

// Supervise is the supervisor's main function. It returns only when it can't do its work.
func Supervise(l Layout, count int) error {
	if os.Getpid() != 1 {
		return errors.New("the supervisor is started by `up` only")
	}
	s := &supervisor{
		layout: l, nodes: nodes(count), byName: map[string]*component{}, loaded: map[string]string{}, began: time.Now(),
		progress: os.NewFile(progressFD, "progress"),
	}
	if err := s.prepare(); err != nil {
		s.say(progressFailed + err.Error())
		return err
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), upTimeout)
		defer cancel()
		if err := s.bringUp(ctx); err != nil {
			log.Printf("not up: %v", err)
			s.say(progressFailed + err.Error())
		} else {
			s.say(progressReady)
		}
		_ = s.progress.Close()
	}()
	control, err := net.FileListener(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	return http.Serve(control, s.control())
}

// prepare does what needs no other process.
func (s *supervisor) prepare() error {
	// The descriptors are the supervisor's alone.
	for fd := progressFD; fd < netnsFD+len(s.nodes); fd++ {
		unix.CloseOnExec(fd)
	}
	if err := privateMounts(s.layout); err != nil {
		return err
	}
	s.env = []string{
		"PATH=" + binDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run",
		stateVariable + "=" + s.layout.Dir, nameVariable + "=" + s.layout.Name,
	}
	s.reaper = newReaper()
	ca, admin, err := adminSecrets()
	if err != nil {
		return err
	}
	if s.probe, err = newProbe(netnsFD, ca, admin); err != nil {
		return err
	}
	all := controlPrograms(s.probe)
	for _, n := range s.nodes {
		p, err := newProbe(n.netns(), ca, admin)
		if err != nil {
			return err
		}
		all = append(all, nodePrograms(n, p)...)
	}
	for _, sp := range all {
		c := &component{spec: sp, reaper: s.reaper, env: s.env, netns: sp.on.netns()}
		s.order = append(s.order, c)
		s.byName[sp.name] = c
	}
	for fd, address := range map[int]string{apiFD: nodeIP + ":" + apiPort, ingressFD: nodeIP + ":80"} {
		listener, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
		if err != nil {
			return err
		}
		go forward(listener, netnsFD, address)
	}
	return nil
}

// say tells `up` how far things are, with the seconds since the start.
func (s *supervisor) say(line string) {
	log.Print(line)
	_, _ = fmt.Fprintf(s.progress, "%5.1fs %s\n", time.Since(s.began).Seconds(), line)
}

// bringUp starts the components in an order that lets none wait in vain, and returns when the
// cluster can take work.
func (s *supervisor) bringUp(ctx context.Context) error {
	if err := s.startAll(ctx, append(s.onEveryNode("containerd"), "etcd")...); err != nil {
		return err
	}
	if err := s.startAll(ctx, "kube-apiserver"); err != nil {
		return err
	}
	s.say("API server ready")
	client, err := newAPI(netnsFD)
	if err != nil {
		return err
	}
	// The node's path to Ready is the longest, so it starts first; what Contour needs follows.
	working := append(s.onEveryNode("kubelet", "kube-proxy"), "kube-controller-manager", "kube-scheduler")
	for _, name := range working {
		if err := s.byName[name].start(); err != nil {
			return err
		}
	}
	return s.together(
		func() error { return s.bringUpIngress(ctx, client) },
		func() error {
			if err := s.startAll(ctx, working...); err != nil {
				return err
			}
			for _, n := range s.nodes {
				if err := client.awaitNode(ctx, n); err != nil {
					return err
				}
				s.say(n.name() + " Ready")
			}
			return nil
		},
		func() error { return s.importPause() },
	)
}

// bringUpIngress applies what every cluster has, then starts DNS and ingress.
func (s *supervisor) bringUpIngress(ctx context.Context, client api) error {
	if _, err := client.apply(ctx, manifests); err != nil {
		return err
	}
	if err := s.byName["coredns"].start(); err != nil {
		return err
	}
	if err := client.applyContourCRDs(ctx); err != nil {
		return err
	}
	if err := s.writeEnvoyBootstrap(); err != nil {
		return err
	}
	if err := s.startAll(ctx, "contour", "envoy", "coredns"); err != nil {
		return err
	}
	s.say("DNS ready")
	if _, err := client.apply(ctx, ingressProbe); err != nil {
		return err
	}
	if err := poll(ctx, func() error { return getOK(ctx, s.probe.client, "http://"+nodeIP+"/", ingressProbeHost) }); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	s.say("ingress serving")
	return nil
}

// onEveryNode names components that each node has.
func (s *supervisor) onEveryNode(components ...string) []string {
	var names []string
	for _, n := range s.nodes {
		for _, component := range components {
			names = append(names, n.own(component))
		}
	}
	return names
}

// startAll starts components and waits until each does its work.
func (s *supervisor) startAll(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := s.byName[name].start(); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := s.byName[name].awaitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// together runs functions side by side and returns the first error.
func (s *supervisor) together(functions ...func() error) error {
	results := make(chan error)
	for _, f := range functions {
		go func() { results <- f() }()
	}
	var all error
	for range functions {
		all = errors.Join(all, <-results)
	}
	return all
}

// writeEnvoyBootstrap lets Contour write the configuration with which Envoy finds Contour.
func (s *supervisor) writeEnvoyBootstrap() error {
	return s.runTool("contour-bootstrap", nil, filepath.Join(binDir, "contour"), "bootstrap", dataDir+"/config/envoy.json",
		"--xds-address=127.0.0.1", "--xds-port=18001", "--admin-address="+envoyAdmin)
}

// runTool runs a program in the cluster's namespaces to its end, its output in its own log.
func (s *supervisor) runTool(name string, stdin *os.File, argv ...string) error {
	path := filepath.Join(logDir, name+".log")
	out, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	_, done, err := s.reaper.start(command{argv: argv, env: s.env, stdin: stdin, stdout: out, stderr: out, netns: netnsFD})
	if err != nil {
		return err
	}
	if status := <-done; status != 0 {
		return fmt.Errorf("%s: %s; see %s", name, describe(status), filepath.Join(s.layout.Logs(), name+".log"))
	}
	return nil
}

// importPause makes the pause image and loads it.
func (s *supervisor) importPause() error {
	archive := filepath.Join(dataDir, "pause.tar")
	digest, _, err := image.Write(image.Spec{
		Name: pauseImage, User: "65532", Bare: true, Entrypoint: []string{"/pause"},
		Files: []image.File{{Source: filepath.Join(binDir, "pause"), Destination: "/pause"}},
	}, archive)
	if err != nil {
		return err
	}
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.importImage(f, digest, []string{pauseImage})
}

// importImage streams a docker-archive into every node's containerd, into the namespace that kubelets use.
func (s *supervisor) importImage(archive io.Reader, digest string, names []string) error {
	s.images.Lock()
	defer s.images.Unlock()
	var readers []*os.File
	var writers []io.Writer
	for range s.nodes {
		reader, writer, err := os.Pipe()
		if err != nil {
			return err
		}
		defer reader.Close()
		defer writer.Close()
		readers, writers = append(readers, reader), append(writers, writer)
	}
	imports := make([]func() error, 0, len(s.nodes)+1)
	for i, n := range s.nodes {
		imports = append(imports, func() error {
			// Closed here too, so that a copy to an import that failed ends.
			defer readers[i].Close()
			return s.runTool("ctr", readers[i], "ctr", "--address", n.containerd(), "--namespace", "k8s.io",
				"images", "import", "--snapshotter", "overlayfs", "-")
		})
	}
	imports = append(imports, func() error {
		_, err := io.Copy(io.MultiWriter(writers...), archive)
		for _, writer := range writers {
			err = errors.Join(err, writer.(*os.File).Close())
		}
		if errors.Is(err, unix.EPIPE) {
			return nil // the import says why
		}
		return err
	})
	if err := s.together(imports...); err != nil {
		return err
	}
	for _, name := range names {
		s.loaded[name] = digest
	}
	log.Printf("loaded %v", names)
	return nil
}

func (s *supervisor) loadedImages() map[string]string {
	s.images.Lock()
	defer s.images.Unlock()
	all := map[string]string{}
	for name, digest := range s.loaded {
		all[name] = digest
	}
	return all
}

func (s *supervisor) names() []string {
	var names []string
	for _, c := range s.order {
		names = append(names, c.name)
	}
	return names
}

func (s *supervisor) components() []ComponentState {
	var states []ComponentState
	for _, c := range s.order {
		c.mu.Lock()
		states = append(states, ComponentState{Name: c.name, Running: c.pid != 0, PID: c.pid, Starts: c.starts})
		c.mu.Unlock()
	}
	return states
}
