// Package cluster starts, inspects and ends a real Kubernetes cluster on this machine.
//
// Shape. `up` makes a network namespace and starts one supervisor, the first process of a PID
// namespace of its own, in a mount namespace of its own. The supervisor starts everything else:
// etcd, the Kubernetes components, containerd, CoreDNS, Contour and Envoy, all in that network
// namespace. It stays itself in the caller's network namespace, where it listens on loopback ports
// and carries connections into the cluster.
//
// Promise: when the supervisor dies, however it dies, the kernel ends every process of the cluster,
// pods included, and unmounts every mount. What `down` has left to remove are the name of the
// network namespace, the control groups and the state directory, all of which follow from the
// cluster's name alone.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"spindle.dev/tests/cluster/internal/netns"
	"spindle.dev/tests/cluster/internal/proc"
)

// Addresses inside a cluster's network namespaces. They are the same in every cluster: no cluster
// sees another's. The first node, which has the control plane, is at nodeIP.
const (
	nodeIP      = "10.200.0.1"
	clusterCIDR = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	apiService  = "10.96.0.1"
	dnsService  = "10.96.0.10"
	apiPort     = "6443"
	domain      = "cluster.local"
)

// Paths inside the mount namespace of a cluster; see mounts.go for what is behind them.
const (
	dataDir    = "/run/spindle"
	binDir     = "/run/spindle-bin"
	logDir     = "/var/log"
	envoyAdmin = "/run/envoy-admin.sock"
)

// stateVariable marks every process of a cluster in its environment with the state directory, and
// nameVariable with the cluster's name: `down` finds by them what a crash left.
const (
	stateVariable = "SPINDLE_CLUSTER_STATE"
	nameVariable  = "SPINDLE_CLUSTER_NAME"
)

// pauseImage holds every pod's namespaces.
const pauseImage = "spindle.dev/pause:1"

// Cache is the directory with the programs that install.sh built and the state of the clusters.
type Cache string

// DefaultCache is SPINDLE_CACHE, else spindle in the user's cache directory.
func DefaultCache() (Cache, error) {
	if dir := os.Getenv("SPINDLE_CACHE"); dir != "" {
		dir, err := filepath.Abs(dir)
		return Cache(dir), err
	}
	dir, err := os.UserCacheDir()
	return Cache(filepath.Join(dir, "spindle")), err
}

// Bin is where the programs are.
func (c Cache) Bin() string { return filepath.Join(string(c), "bin") }

var namePattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?$`)

// Cluster returns the layout of the cluster with that name, whether it exists or not.
func (c Cache) Cluster(name string) (Layout, error) {
	if !namePattern.MatchString(name) {
		return Layout{}, fmt.Errorf("cluster name %q: use 1 to 30 lower-case letters, digits and inner dashes", name)
	}
	return Layout{Name: name, Cache: c, Dir: filepath.Join(string(c), "clusters", name)}, nil
}

// Layout tells where a cluster keeps what.
type Layout struct {
	Name  string
	Cache Cache
	// Dir is the state directory, seen from the machine.
	Dir string
}

// Netns is the name of the network namespace of the cluster's first node.
func (l Layout) Netns() string { return l.netns(1) }

// NodeNetns is the name of a node's network namespace, by the node's number from 1.
func (l Layout) NodeNetns(number int) string { return l.netns(node(number)) }

// netns is the name of a node's network namespace. No cluster's name has a dot.
func (l Layout) netns(n node) string {
	if n == 1 {
		return "spindle-" + l.Name
	}
	return fmt.Sprintf("spindle-%s.%d", l.Name, n)
}

// Cgroup is the name of the cluster's control group below each hierarchy's root.
func (l Layout) Cgroup() string { return "spindle-" + l.Name }

// Logs holds one file per component, and pods/ with the logs of the pods.
func (l Layout) Logs() string { return filepath.Join(l.Dir, "logs") }

// Data holds everything else that components write. It is dataDir inside.
func (l Layout) Data() string { return filepath.Join(l.Dir, "data") }

// Kubeconfig is for the user's shell, InsideKubeconfig for the cluster's network namespace.
func (l Layout) Kubeconfig() string       { return filepath.Join(l.Dir, "kubeconfig") }
func (l Layout) InsideKubeconfig() string { return filepath.Join(l.Dir, "kubeconfig-inside") }

func (l Layout) recordFile() string { return filepath.Join(l.Dir, "cluster.json") }

// Status is what a user or a test has to know about a running cluster.
type Status struct {
	Name             string `json:"name"`
	Kubeconfig       string `json:"kubeconfig"`
	InsideKubeconfig string `json:"inside_kubeconfig"`
	APIURL           string `json:"api_url"`
	InsideAPIURL     string `json:"inside_api_url"`
	IngressURL       string `json:"ingress_url"`
	InsideIngressURL string `json:"inside_ingress_url"`
	Netns            string `json:"netns"`
	NodeIP           string `json:"node_ip"`
	Nodes            int    `json:"nodes"`
	StateDir         string `json:"state_dir"`
	LogDir           string `json:"log_dir"`
	BinDir           string `json:"bin_dir"`
}

// record is what `up` leaves on disk for the other commands.
type record struct {
	Supervisor proc.Identity `json:"supervisor"`
	Status     Status        `json:"status"`
}

func (l Layout) writeRecord(r record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	temporary := l.recordFile() + ".new"
	if err := os.WriteFile(temporary, append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, l.recordFile())
}

func (l Layout) readRecord() (record, error) {
	var r record
	text, err := os.ReadFile(l.recordFile())
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(text, &r)
}

// ErrDown says that there is no such cluster, or that it has died.
var ErrDown = errors.New("not up")

// Running returns the status of a cluster whose supervisor lives.
func (l Layout) Running() (Status, error) {
	r, err := l.readRecord()
	if errors.Is(err, os.ErrNotExist) {
		return Status{}, fmt.Errorf("cluster %s: %w; start it with: spindle-cluster up --name %s", l.Name, ErrDown, l.Name)
	}
	if err != nil {
		return Status{}, fmt.Errorf("cluster %s: %w", l.Name, err)
	}
	if !r.Supervisor.Alive() || !netns.Exists(l.Netns()) {
		return Status{}, fmt.Errorf("cluster %s: %w: its supervisor has died; see %s, then remove it with: spindle-cluster down --name %s",
			l.Name, ErrDown, l.Logs(), l.Name)
	}
	return r.Status, nil
}
