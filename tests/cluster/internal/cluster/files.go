package cluster

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"spindle.dev/tests/cluster/internal/pki"
)

// identities are the cluster's certificates by file name. A client's is also the user of the
// kubeconfig with that name.
var identities = map[string]pki.Leaf{
	"admin":                    {User: "kubernetes-admin", Groups: []string{"system:masters"}},
	"apiserver-kubelet-client": {User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}},
	"kube-controller-manager":  {User: "system:kube-controller-manager"},
	"kube-scheduler":           {User: "system:kube-scheduler"},
	"kube-proxy":               {User: "system:kube-proxy"},
	"coredns":                  {User: "system:coredns"},
	"contour":                  {User: "contour", Groups: []string{"system:masters"}},
	"apiserver": {User: "kube-apiserver", Hosts: []string{
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + domain,
		"localhost", "127.0.0.1", "::1", nodeIP, apiService,
	}},
}

// identitiesOf are the identities of every component of a cluster with these many nodes.
func identitiesOf(count int) map[string]pki.Leaf {
	all := maps.Clone(identities)
	for _, n := range nodes(count) {
		all[n.own("kubelet")] = pki.Leaf{User: "system:node:" + n.name(), Groups: []string{"system:nodes"}}
		all[n.own("kubelet-server")] = pki.Leaf{User: n.name(), Hosts: []string{n.name(), n.ip(), "127.0.0.1"}}
	}
	return all
}

// secrets is what other parts of the orchestrator need of the certificates.
type secrets struct {
	ca    []byte
	admin pki.Pair
}

// writeFiles writes certificates, kubeconfigs and configuration into the data directory.
func writeFiles(l Layout, apiURL string, count int) error {
	dirs := []string{"pki", "kubeconfig", "config", "etcd", "var-lib"}
	for _, n := range nodes(count) {
		dirs = append(dirs, n.own("cni"))
	}
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(l.Data(), dir), 0o700); err != nil {
			return err
		}
	}
	// Pods look up files below these as other users.
	for _, dir := range []string{l.Data(), filepath.Join(l.Data(), "var-lib")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	made, err := writeCertificates(l, count)
	if err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	inside := "https://" + nodeIP + ":" + apiPort
	if err := writeKubeconfig(l.Kubeconfig(), apiURL, l.Name, made.ca, made.admin); err != nil {
		return err
	}
	if err := writeKubeconfig(l.InsideKubeconfig(), inside, l.Name, made.ca, made.admin); err != nil {
		return err
	}
	return writeConfiguration(l, count)
}

// writeCertificates makes every certificate, and a kubeconfig for every component.
func writeCertificates(l Layout, count int) (secrets, error) {
	dir := filepath.Join(l.Data(), "pki")
	write := func(name string, pair pki.Pair) error {
		if err := os.WriteFile(filepath.Join(dir, name+".crt"), pair.Cert, 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".key"), pair.Key, 0o600)
	}
	ca, err := pki.NewAuthority("spindle-" + l.Name)
	if err != nil {
		return secrets{}, err
	}
	frontProxy, err := pki.NewAuthority("front-proxy-" + l.Name)
	if err != nil {
		return secrets{}, err
	}
	frontClient, err := frontProxy.Issue(pki.Leaf{User: "front-proxy-client"})
	if err != nil {
		return secrets{}, err
	}
	tokens, err := pki.SigningKey()
	if err != nil {
		return secrets{}, err
	}
	for name, pair := range map[string]pki.Pair{
		"ca": ca.Pair(), "front-proxy-ca": frontProxy.Pair(), "front-proxy-client": frontClient, "service-account": tokens,
	} {
		if err := write(name, pair); err != nil {
			return secrets{}, err
		}
	}
	made := secrets{ca: ca.Pair().Cert}
	for name, leaf := range identitiesOf(count) {
		pair, err := ca.Issue(leaf)
		if err != nil {
			return secrets{}, err
		}
		if err := write(name, pair); err != nil {
			return secrets{}, err
		}
		if name == "admin" {
			made.admin = pair
		}
		if len(leaf.Hosts) > 0 {
			continue
		}
		path := filepath.Join(l.Data(), "kubeconfig", name)
		if err := writeKubeconfig(path, "https://"+nodeIP+":"+apiPort, l.Name, made.ca, pair); err != nil {
			return secrets{}, err
		}
	}
	return made, nil
}

// adminSecrets reads, inside, what the supervisor needs to reach its API server.
func adminSecrets() (ca []byte, admin tls.Certificate, err error) {
	dir := filepath.Join(dataDir, "pki")
	if ca, err = os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil {
		return nil, admin, err
	}
	admin, err = tls.LoadX509KeyPair(filepath.Join(dir, "admin.crt"), filepath.Join(dir, "admin.key"))
	return ca, admin, err
}

func writeKubeconfig(path, server, name string, ca []byte, user pki.Pair) error {
	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters:
- name: spindle-%[1]s
  cluster:
    server: %[2]s
    certificate-authority-data: %[3]s
users:
- name: spindle-%[1]s
  user:
    client-certificate-data: %[4]s
    client-key-data: %[5]s
contexts:
- name: spindle-%[1]s
  context:
    cluster: spindle-%[1]s
    user: spindle-%[1]s
current-context: spindle-%[1]s
`, name, server, encode(ca), encode(user.Cert), encode(user.Key))
	return os.WriteFile(path, []byte(text), 0o600)
}

// writeConfiguration writes the components' configuration files.
func writeConfiguration(l Layout, count int) error {
	cni, err := cniDir()
	if err != nil {
		return err
	}
	files := map[string]string{
		"config/audit.yaml":   auditPolicy,
		"config/Corefile":     corefile,
		"config/contour.yaml": contourConfig,
		"config/resolv.conf":  "# No upstream: the cluster has no way out.\n",
	}
	for _, n := range nodes(count) {
		files["config/"+n.own("kubelet")+".yaml"] = kubeletConfig(l, n)
		files["config/"+n.own("containerd")+".toml"] = containerdConfig(n, cni)
		files[n.own("cni")+"/10-spindle.conflist"] = cniConfig(n)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(l.Data(), name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// kubeletConfig: eviction and image collection are off, because the machine's disk is not the
// cluster's own; secrets and config maps reach pods within ten seconds, not a minute.
func kubeletConfig(l Layout, n node) string {
	return `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: ` + dataDir + `/pki/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: ` + dataDir + `/pki/` + n.own("kubelet-server") + `.crt
tlsPrivateKeyFile: ` + dataDir + `/pki/` + n.own("kubelet-server") + `.key
containerRuntimeEndpoint: unix://` + n.containerd() + `
cgroupDriver: cgroupfs
cgroupRoot: /` + n.cgroup(l) + `
clusterDNS: [` + dnsService + `]
clusterDomain: ` + domain + `
resolvConf: ` + dataDir + `/config/resolv.conf
volumePluginDir: /var/lib/` + n.own("kubelet") + `/volume-plugins
podLogsDir: ` + logDir + `/` + n.own("pods") + `
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
syncFrequency: 10s
serializeImagePulls: false
`
}

// containerdConfig: restrict_oom_score_adj lets pods start without CAP_SYS_RESOURCE.
func containerdConfig(n node, cniPlugins string) string {
	root, state := "/var/lib/"+n.own("containerd"), "/run/"+n.own("containerd")
	return `version = 2
root = "` + root + `"
state = "` + state + `"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "` + n.containerd() + `"
[plugins."io.containerd.internal.v1.opt"]
  path = "` + root + `/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "` + pauseImage + `"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "` + cniPlugins + `"
    conf_dir = "` + dataDir + `/` + n.own("cni") + `"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`
}

// cniConfig uses a routed link per pod and no bridge: traffic between two pods of the node then
// passes kube-proxy's rules without depending on the kernel's br_netfilter.
func cniConfig(n node) string {
	return `{
  "cniVersion": "0.4.0",
  "name": "` + n.own("spindle") + `",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "` + n.podCIDR() + `"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`
}

// auditPolicy has the API server write down what ServiceAccounts ask, other than Kubernetes's own: who may do what, and
// whether all of it is needed, can then be told from what was done.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: None, userGroups: ["system:serviceaccounts:kube-system"]}
  - {level: Metadata, userGroups: ["system:serviceaccounts"]}
  - {level: None}
`

// corefile answers for the cluster's own zones. Any other name does not exist: there is no upstream,
// and a refusal instead would make resolvers wait and try again.
const corefile = domain + ` in-addr.arpa ip6.arpa {
    bind ` + nodeIP + `
    errors
    ready 127.0.0.1:18181
    kubernetes ` + domain + ` in-addr.arpa ip6.arpa {
        kubeconfig ` + dataDir + `/kubeconfig/coredns
        pods insecure
        ttl 5
    }
    cache 5 {
        disable denial
    }
    loadbalance
}
. {
    bind ` + nodeIP + `
    errors
    template ANY ANY {
        rcode NXDOMAIN
    }
}
`

const contourConfig = `accesslog-level: disabled
`
