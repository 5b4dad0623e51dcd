package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"spindle.dev/tests/cluster/internal/netns"
	"spindle.dev/tests/cluster/internal/proc"
)

// Ports that `up` takes on loopback when they are free and the caller asks for none.
const (
	preferredAPIPort     = 16443
	preferredIngressPort = 8088
)

// Options are the choices of `up`.
type Options struct {
	// Images are docker-archives to load.
	Images []string
	// Nodes is how many nodes there are to be.
	Nodes int
	// APIPort and IngressPort on 127.0.0.1; 0 takes the preferred one, or any that is free.
	APIPort, IngressPort int
	// KeepGoing leaves a cluster that did not come up as it is, to be looked at.
	KeepGoing bool
	// Out gets progress lines.
	Out io.Writer
}

// Up brings the cluster up, or finds it up, loads the images and returns its status.
func (l Layout) Up(o Options) (Status, error) {
	unlock, err := l.lock()
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return Status{}, fmt.Errorf("%d nodes: there may be 1 to %d", o.Nodes, maxNodes)
	}
	status, err := l.Running()
	if err == nil {
		if status.Nodes != o.Nodes {
			return Status{}, fmt.Errorf("cluster %s is up with %d node(s), not %d; end it first: spindle-cluster down --name %s",
				l.Name, status.Nodes, o.Nodes, l.Name)
		}
		fmt.Fprintf(o.Out, "cluster %s is up already\n", l.Name)
	} else {
		if err := l.preflight(); err != nil {
			return Status{}, err
		}
		if err := l.remove(false); err != nil { // what a crash left
			return Status{}, err
		}
		if status, err = l.create(o); err != nil {
			if !o.KeepGoing {
				err = errors.Join(err, l.remove(true))
			}
			return Status{}, err
		}
	}
	client, err := l.Connect()
	if err != nil {
		return Status{}, err
	}
	return status, client.Load(o.Images, func(file string, names []string, loaded bool) {
		verb := "loaded"
		if !loaded {
			verb = "has"
		}
		fmt.Fprintf(o.Out, "%s %s\n", verb, strings.Join(names, " "))
	})
}

// lock keeps two commands from changing the same cluster at once. It is an abstract Unix address:
// the kernel frees it when this process ends, and no file stays. A cluster of the same name that
// runs from another cache is refused: its namespace and control groups bear the same names.
func (l Layout) lock() (func(), error) {
	for _, id := range proc.Running(proc.HasEnv(nameVariable, l.Name)) {
		if dir, _ := proc.Env(id.PID, stateVariable); dir != l.Dir {
			return nil, fmt.Errorf("a cluster named %s runs already, kept in %s; choose another name or that SPINDLE_CACHE", l.Name, dir)
		}
	}
	listener, err := net.Listen("unix", "@spindle-cluster-lock-"+l.Name)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("cluster %s: another up or down is at work on it; wait for that to end", l.Name)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = listener.Close() }, nil
}

// preflight names everything that is missing before anything is changed.
func (l Layout) preflight() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run this as root")
	}
	var missing []string
	for _, program := range []string{"containerd", "ctr", "runc", "iptables", "conntrack", "ip"} {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
		}
	}
	for _, program := range []string{"spindle-cluster", "contour", "envoy", "pause", contourCRDs} {
		path := filepath.Join(l.Cache.Bin(), program)
		if _, err := os.Stat(path); err != nil {
			missing = append(missing, path)
		}
	}
	if _, err := cniDir(); err != nil {
		missing = append(missing, "CNI plugins")
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing: %s; run tests/cluster/install.sh", strings.Join(missing, ", "))
	}
	return nil
}

// create makes the namespace, the files and the supervisor, and waits until it reports.
func (l Layout) create(o Options) (Status, error) {
	if err := os.MkdirAll(filepath.Join(l.Logs(), "pods"), 0o755); err != nil {
		return Status{}, err
	}
	apiListener, err := listen(o.APIPort, preferredAPIPort)
	if err != nil {
		return Status{}, fmt.Errorf("API server port: %w", err)
	}
	defer apiListener.Close()
	ingressListener, err := listen(o.IngressPort, preferredIngressPort)
	if err != nil {
		return Status{}, fmt.Errorf("ingress port: %w", err)
	}
	defer ingressListener.Close()
	status := l.status(apiListener.Addr().String(), ingressListener.Addr().String())
	status.Nodes = o.Nodes
	if err := writeFiles(l, status.APIURL, o.Nodes); err != nil {
		return Status{}, err
	}
	for _, n := range nodes(o.Nodes) {
		if err := createCgroups(n.cgroup(l), n.weight()); err != nil {
			return Status{}, err
		}
	}
	if err := createNetworks(l, o.Nodes); err != nil {
		return Status{}, err
	}
	progress, err := l.spawn(status, apiListener, ingressListener)
	if err != nil {
		return Status{}, err
	}
	defer progress.Close()
	return status, l.follow(progress, o.Out)
}

func (l Layout) status(apiAddress, ingressAddress string) Status {
	return Status{
		Name: l.Name, Kubeconfig: l.Kubeconfig(), InsideKubeconfig: l.InsideKubeconfig(),
		APIURL: "https://" + apiAddress, InsideAPIURL: "https://" + nodeIP + ":" + apiPort,
		IngressURL: "http://" + ingressAddress, InsideIngressURL: "http://" + nodeIP,
		Netns: l.Netns(), NodeIP: nodeIP, StateDir: l.Dir, LogDir: l.Logs(), BinDir: l.Cache.Bin(),
	}
}

// listen takes a port on loopback: the one asked for, else the preferred one, else any.
func listen(asked, preferred int) (*net.TCPListener, error) {
	address := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	if asked != 0 {
		l, err := net.Listen("tcp", address(asked))
		if err != nil {
			return nil, err
		}
		return l.(*net.TCPListener), nil
	}
	l, err := net.Listen("tcp", address(preferred))
	if err != nil {
		l, err = net.Listen("tcp", address(0))
	}
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// spawn starts the supervisor, records it, and returns the pipe on which it reports progress.
func (l Layout) spawn(status Status, listeners ...*net.TCPListener) (*os.File, error) {
	control, err := l.listenControl()
	if err != nil {
		return nil, err
	}
	defer control.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	// In the order of progressFD and its successors.
	files := []*os.File{writer, control}
	for _, listener := range listeners {
		f, err := listener.File()
		if err != nil {
			return nil, err
		}
		defer f.Close()
		files = append(files, f)
	}
	for _, n := range nodes(status.Nodes) {
		namespace, err := os.Open(netns.Path(l.netns(n)))
		if err != nil {
			return nil, err
		}
		defer namespace.Close()
		files = append(files, namespace)
	}
	out, err := os.OpenFile(filepath.Join(l.Logs(), "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(filepath.Join(l.Cache.Bin(), "spindle-cluster"), "supervise", "--name", l.Name,
		"--nodes", strconv.Itoa(status.Nodes))
	cmd.Env = append(os.Environ(), "SPINDLE_CACHE="+string(l.Cache), stateVariable+"="+l.Dir, nameVariable+"="+l.Name)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, files
	// A session of its own: an interrupt at the terminal ends `up`, not the cluster.
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		_ = reader.Close()
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	id, err := proc.Of(cmd.Process.Pid)
	if err != nil {
		_ = reader.Close()
		return nil, fmt.Errorf("the supervisor ended at once; see %s", out.Name())
	}
	go func() { _ = cmd.Wait() }() // so that it does not stay as a zombie while `up` runs
	return reader, l.writeRecord(record{Supervisor: id, Status: status})
}

// listenControl opens the supervisor's socket.
func (l Layout) listenControl() (*os.File, error) {
	path, release, err := socketPath(l.Dir, controlSocket)
	if err != nil {
		return nil, err
	}
	defer release()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	defer listener.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return listener.File()
}

// follow prints progress until the supervisor says how it ended.
func (l Layout) follow(progress io.Reader, out io.Writer) error {
	for lines := bufio.NewScanner(progress); lines.Scan(); {
		line := lines.Text()
		_, message, _ := strings.Cut(strings.TrimSpace(line), " ")
		if message == progressReady {
			return nil
		}
		if reason, failed := strings.CutPrefix(message, progressFailed); failed {
			return fmt.Errorf("cluster %s did not come up: %s; logs are in %s", l.Name, reason, l.Logs())
		}
		fmt.Fprintln(out, line)
	}
	return fmt.Errorf("cluster %s: its supervisor died; see %s", l.Name, filepath.Join(l.Logs(), "supervisor.log"))
}
