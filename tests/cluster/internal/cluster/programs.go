package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"spindle.dev/tests/cluster/internal/netns"
)

// cniDirs are where distributions put the CNI plugins; Debian's package uses the first.
var cniDirs = []string{"/usr/lib/cni", "/opt/cni/bin"}

func cniDir() (string, error) {
	for _, dir := range cniDirs {
		if _, err := os.Stat(filepath.Join(dir, "ptp")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no CNI plugins in %v; run tests/cluster/install.sh", cniDirs)
}

// probe is an HTTP client inside the cluster's network namespace.
type probe struct {
	netns  int
	client *http.Client
}

func newProbe(netnsFD int, ca []byte, client tls.Certificate) (probe, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return probe{}, errors.New("the cluster's authority is no certificate")
	}
	return probe{netns: netnsFD, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return netns.Dial(ctx, netnsFD, network, address)
		},
		TLSClientConfig:   &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}},
		DisableKeepAlives: true,
	}}}, nil
}

// ok is ready when a URL answers 200.
func (p probe) ok(url string) func(context.Context) error {
	return func(ctx context.Context) error { return getOK(ctx, p.client, url, "") }
}

// okInsecure is ok for a component that serves a certificate it made itself.
func (p probe) okInsecure(url string) func(context.Context) error {
	transport := p.client.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	return func(ctx context.Context) error { return getOK(ctx, &http.Client{Transport: transport}, url, "") }
}

// okSocket is ok for a component that serves on a Unix socket.
func okSocket(socket, path string) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	return func(ctx context.Context) error { return getOK(ctx, client, "http://localhost"+path, "") }
}

func getOK(ctx context.Context, client *http.Client, url, host string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 200))
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", url, response.Status, body)
	}
	return nil
}

// dialable is ready when a Unix socket takes connections.
func dialable(socket string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", socket)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

var self = filepath.Join(binDir, "spindle-cluster")

func pkiFile(name string) string    { return filepath.Join(dataDir, "pki", name) }
func configFile(name string) string { return filepath.Join(dataDir, "config", name) }
func kubeconfig(user string) string { return filepath.Join(dataDir, "kubeconfig", user) }

// nodePrograms says how the components that every node has are run, in the order of start.
func nodePrograms(n node, p probe) []spec {
	return []spec{
		{n.own("containerd"), n, []string{
			"containerd", "--config=" + configFile(n.own("containerd")+".toml"),
		}, dialable(n.containerd())},
		{n.own("kubelet"), n, []string{
			self, "kubelet", "--config=" + configFile(n.own("kubelet")+".yaml"), "--kubeconfig=" + kubeconfig(n.own("kubelet")),
			"--root-dir=/var/lib/" + n.own("kubelet"), "--hostname-override=" + n.name(), "--node-ip=" + n.ip(),
		}, p.ok("http://127.0.0.1:10248/healthz")},
		{n.own("kube-proxy"), n, []string{
			self, "kube-proxy", "--kubeconfig=" + kubeconfig("kube-proxy"), "--hostname-override=" + n.name(),
			"--proxy-mode=iptables", "--cluster-cidr=" + clusterCIDR, "--oom-score-adj=0",
			"--healthz-bind-address=127.0.0.1:10256", "--metrics-bind-address=127.0.0.1:10249",
			// These settings belong to the whole machine.
			"--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
		}, p.ok("http://127.0.0.1:10256/healthz")},
	}
}

// controlPrograms says how the components that the first node alone has are run, in the order of start.
func controlPrograms(p probe) []spec {
	pki, conf, file := pkiFile, kubeconfig, configFile
	return []spec{
		{"etcd", 1, []string{
			self, "etcd", "--data-dir=" + dataDir + "/etcd", "--log-level=warn",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=default=http://127.0.0.1:2380",
			"--unsafe-no-fsync", // the data outlives the process, and the cluster never outlives the machine
		}, p.ok("http://127.0.0.1:2379/health")},
		{"kube-apiserver", 1, []string{
			self, "kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
			"--secure-port=" + apiPort, "--advertise-address=" + nodeIP,
			"--service-cluster-ip-range=" + serviceCIDR,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--client-ca-file=" + pki("ca.crt"),
			"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"),
			"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
			"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
			"--kubelet-preferred-address-types=InternalIP", // node names don't resolve
			"--service-account-issuer=https://kubernetes.default.svc." + domain,
			"--service-account-key-file=" + pki("service-account.crt"),
			"--service-account-signing-key-file=" + pki("service-account.key"),
			"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
			"--proxy-client-key-file=" + pki("front-proxy-client.key"),
			"--audit-policy-file=" + file("audit.yaml"), "--audit-log-path=" + logDir + "/audit.log",
			"--profiling=false",
		}, p.ok("https://" + nodeIP + ":" + apiPort + "/readyz")},
		{"kube-controller-manager", 1, []string{
			self, "kube-controller-manager", "--kubeconfig=" + conf("kube-controller-manager"), "--leader-elect=false",
			"--bind-address=127.0.0.1", "--cluster-cidr=" + clusterCIDR, "--service-cluster-ip-range=" + serviceCIDR,
			"--use-service-account-credentials", "--root-ca-file=" + pki("ca.crt"),
			"--service-account-private-key-file=" + pki("service-account.key"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			"--flex-volume-plugin-dir=/var/lib/kubelet/volume-plugins", "--profiling=false",
		}, p.okInsecure("https://127.0.0.1:10257/healthz")},
		{"kube-scheduler", 1, []string{
			self, "kube-scheduler", "--kubeconfig=" + conf("kube-scheduler"), "--leader-elect=false",
			"--bind-address=127.0.0.1", "--profiling=false",
		}, p.okInsecure("https://127.0.0.1:10259/healthz")},
		{"coredns", 1, []string{self, "coredns", "-conf", file("Corefile")}, p.ok("http://127.0.0.1:18181/ready")},
		{"contour", 1, []string{
			filepath.Join(binDir, "contour"), "serve", "--kubeconfig=" + conf("contour"), "--insecure",
			"--config-path=" + file("contour.yaml"), "--disable-leader-election",
			"--xds-address=127.0.0.1", "--xds-port=18001", "--health-address=127.0.0.1", "--health-port=18000",
			"--http-address=127.0.0.1", "--http-port=18003", "--debug-http-address=127.0.0.1", "--debug-http-port=18060",
			"--stats-address=127.0.0.1", "--stats-port=18002",
			"--envoy-service-http-address=0.0.0.0", "--envoy-service-http-port=80",
			"--envoy-service-https-address=0.0.0.0", "--envoy-service-https-port=443",
			"--ingress-status-address=" + nodeIP,
		}, p.ok("http://127.0.0.1:18000/healthz")},
		{"envoy", 1, []string{
			filepath.Join(binDir, "envoy"), "--config-path", file("envoy.json"), "--log-level", "warning",
			"--service-cluster", "spindle", "--service-node", node(1).name(),
			"--disable-hot-restart", // it would share memory with every other Envoy of the machine
		}, okSocket(envoyAdmin, "/ready")},
	}
}
