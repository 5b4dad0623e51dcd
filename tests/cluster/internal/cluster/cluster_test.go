package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
)

func TestHierarchiesOfBothVersionsAreFound(t *testing.T) {
	mountinfo := `22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:27 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:28 / /sys/fs/cgroup/cpu rw,relatime shared:7 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	want := []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"}
	if got := parseHierarchies([]byte(mountinfo)); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestOnlyNamesThatEveryKernelObjectCanBearAreAccepted(t *testing.T) {
	for _, name := range []string{"a", "e2e-1", strings.Repeat("x", 30)} {
		if _, err := Cache("/c").Cluster(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "-a", "a-", "A", "a/b", "..", "a b", strings.Repeat("x", 31)} {
		if _, err := Cache("/c").Cluster(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestNothingOfOneNodeIsAnothers(t *testing.T) {
	l, err := Cache("/c").Cluster("x")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]node{}
	for _, n := range nodes(maxNodes) {
		for _, own := range []string{n.name(), n.ip(), n.podCIDR(), n.own("kubelet"), n.containerd(), n.cgroup(l), l.netns(n)} {
			if other, taken := seen[own]; taken && other != n {
				t.Errorf("nodes %d and %d have the same %s", other, n, own)
			}
			seen[own] = n
		}
	}
	if node(1).ip() != nodeIP || l.netns(1) != l.Netns() {
		t.Error("the first node is not where the control plane is")
	}
}

func TestNoClusterHasTheNetworkOfAnothersNode(t *testing.T) {
	l, err := Cache("/c").Cluster("x")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x-2", "x2"} {
		other, err := Cache("/c").Cluster(name)
		if err != nil {
			t.Fatal(err)
		}
		if other.Netns() == l.netns(2) {
			t.Errorf("cluster %s has the network namespace of a node of x", name)
		}
	}
}

func TestEveryNodesKubeletIsToldOfItsOwnThingsOnly(t *testing.T) {
	l, err := Cache("/c").Cluster("x")
	if err != nil {
		t.Fatal(err)
	}
	second := kubeletConfig(l, 2)
	for _, want := range []string{"/run/containerd-2/", "kubelet-server-2.crt", "cgroupRoot: /spindle-x/node-2\n", "podLogsDir: /var/log/pods-2\n"} {
		if !strings.Contains(second, want) {
			t.Errorf("no %q in:\n%s", want, second)
		}
	}
	if config := cniConfig(2); !strings.Contains(config, "10.244.1.0/24") || strings.Contains(config, "10.244.0.0/24") {
		t.Errorf("pods of the second node get addresses of the first:\n%s", config)
	}
	if leaf := identitiesOf(2)["kubelet-2"]; leaf.User != "system:node:node-2" {
		t.Errorf("its kubelet is %q", leaf.User)
	}
}

func TestAnImageIsHeldOnlyWhenEveryNameStandsForThisArchive(t *testing.T) {
	present := map[string]string{"a:1": "d1", "b:1": "d1", "c:1": "d2"}
	for _, test := range []struct {
		names []string
		want  bool
	}{
		{[]string{"a:1", "b:1"}, true}, {[]string{"a:1", "c:1"}, false}, {[]string{"a:1", "x:1"}, false}, {nil, false},
	} {
		if got := holds(present, test.names, "d1"); got != test.want {
			t.Errorf("%v: got %v", test.names, got)
		}
	}
}

func TestAClusterWhoseSupervisorIsGoneIsNotUp(t *testing.T) {
	l, err := Cache(t.TempDir()).Cluster("gone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Running(); !errors.Is(err, ErrDown) {
		t.Fatalf("never started: %v", err)
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := l.writeRecord(record{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Running(); !errors.Is(err, ErrDown) {
		t.Fatalf("died: %v", err)
	}
}

func TestLogsOutliveTheStateOnlyWhenAsked(t *testing.T) {
	for _, keep := range []bool{true, false} {
		l, err := Cache(t.TempDir()).Cluster("x")
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{l.Logs(), filepath.Join(l.Data(), "etcd")} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.removeState(keep); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(l.Data()); err == nil {
			t.Errorf("keep %v: data is still there", keep)
		}
		if _, err := os.Stat(l.Logs()); (err == nil) != keep {
			t.Errorf("keep %v: logs: %v", keep, err)
		}
	}
}

func TestEveryKindInTheManifestsHasAResource(t *testing.T) {
	for _, text := range [][]byte{manifests, ingressProbe} {
		for _, document := range strings.Split(string(text), "\n---\n") {
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte(document), &object); err != nil {
				t.Fatal(err)
			}
			if _, ok := resources[object["kind"].(string)]; !ok {
				t.Errorf("no resource for kind %v", object["kind"])
			}
		}
	}
}
