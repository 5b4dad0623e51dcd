package cluster

import (
	"fmt"

	"spindle.dev/tests/cluster/internal/netns"
)

// maxNodes bounds a cluster: every node's kubelet and containerd run on this one machine.
const maxNodes = 9

// node is a node's number, from 1. The first has the control plane, DNS and the ingress beside its pods; every
// node has a network namespace, a containerd, a kubelet and a kube-proxy of its own. All else follows from the number.
type node int

func nodes(count int) []node {
	var all []node
	for n := node(1); int(n) <= count; n++ {
		all = append(all, n)
	}
	return all
}

func (n node) name() string    { return fmt.Sprintf("node-%d", n) }
func (n node) ip() string      { return fmt.Sprintf("10.200.0.%d", n) }
func (n node) podCIDR() string { return fmt.Sprintf("10.244.%d.0/24", n-1) }

// own is the name of something that each node has one of: bare on the first, with its number on the others.
func (n node) own(name string) string {
	if n == 1 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, n)
}

// containerd is where the node's containerd listens, seen from inside.
func (n node) containerd() string { return "/run/" + n.own("containerd") + "/containerd.sock" }

// cgroup is the group below which the node's kubelet keeps its pods; a kubelet removes pods' groups that it does not know.
func (n node) cgroup(l Layout) string {
	if n == 1 {
		return l.Cgroup()
	}
	return l.Cgroup() + "/" + n.name()
}

// weight is what that group counts for. To the machine the first node's group is one process, whatever runs in it, and
// beside a compiler its pods would starve; in it, kubelets give the group of all pods of a node of two processors 2048.
func (n node) weight() int {
	if n == 1 {
		return 8192
	}
	return 2048
}

// firstCommands give the first node's fresh network namespace its address. Its interface is a bridge, because not
// every kernel has the dummy type; the other nodes join it.
var firstCommands = [][]string{
	{"ip", "link", "set", "lo", "up"},
	{"ip", "link", "add", "node0", "type", "bridge"},
	{"ip", "address", "add", nodeIP + "/24", "dev", "node0"},
	{"ip", "link", "set", "node0", "up"},
	{"ip", "route", "add", "default", "dev", "node0"},
	forwarding,
}

var forwarding = []string{"sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet"}

// createNetworks makes the nodes' network namespaces and joins them: a link from each to the first one's bridge, and
// everywhere a route to every other node's pods.
func createNetworks(l Layout, count int) error {
	if err := netns.Create(l.netns(1), firstCommands...); err != nil {
		return err
	}
	for _, n := range nodes(count)[1:] {
		port := fmt.Sprintf("port%d", n)
		if err := netns.Create(l.netns(n), []string{"ip", "link", "set", "lo", "up"}, forwarding); err != nil {
			return err
		}
		// The peer is put into its namespace by the name that `ip netns` knows.
		err := netns.Run(l.netns(1),
			[]string{"ip", "link", "add", port, "type", "veth", "peer", "name", "node0", "netns", l.netns(n)},
			[]string{"ip", "link", "set", port, "master", "node0", "up"},
			[]string{"ip", "route", "add", n.podCIDR(), "via", n.ip()})
		if err != nil {
			return err
		}
		commands := [][]string{
			{"ip", "address", "add", n.ip() + "/24", "dev", "node0"},
			{"ip", "link", "set", "node0", "up"},
			{"ip", "route", "add", "default", "dev", "node0"},
		}
		for _, other := range nodes(int(n) - 1) {
			commands = append(commands, []string{"ip", "route", "add", other.podCIDR(), "via", other.ip()})
			if other != 1 {
				if err := netns.Run(l.netns(other), []string{"ip", "route", "add", n.podCIDR(), "via", n.ip()}); err != nil {
					return err
				}
			}
		}
		if err := netns.Run(l.netns(n), commands...); err != nil {
			return err
		}
	}
	return nil
}
