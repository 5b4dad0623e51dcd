package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"spindle.dev/tests/cluster/internal/netns"
)

//go:embed manifests.yaml
var manifests []byte

//go:embed ingress-probe.yaml
var ingressProbe []byte

// ingressProbeHost is the host name in ingress-probe.yaml.
const ingressProbeHost = "ingress-probe.cluster.local"

// contourCRDs is a file of Contour's own, which install.sh puts beside the programs.
const contourCRDs = "contour-crds.yaml"

// resources maps the kinds that the orchestrator applies to their REST paths, so that no discovery
// is needed.
var resources = map[string]schema.GroupVersionResource{
	"ClusterRole":              {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
	"ClusterRoleBinding":       {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	"Service":                  {Version: "v1", Resource: "services"},
	"EndpointSlice":            {Group: "discovery.k8s.io", Version: "v1", Resource: "endpointslices"},
	"IngressClass":             {Group: "networking.k8s.io", Version: "v1", Resource: "ingressclasses"},
	"CustomResourceDefinition": {Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
	"HTTPProxy":                {Group: "projectcontour.io", Version: "v1", Resource: "httpproxies"},
}

// api is the orchestrator's own client of the cluster.
type api struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
}

// newAPI uses the administrator's kubeconfig, dialling from the cluster's network namespace.
func newAPI(netnsFD int) (api, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dataDir, "kubeconfig", "admin"))
	if err != nil {
		return api{}, err
	}
	config.QPS = -1
	config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		return netns.Dial(ctx, netnsFD, network, address)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return api{}, err
	}
	typed, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return api{}, err
	}
	untyped, err := dynamic.NewForConfigAndClient(config, client)
	return api{typed: typed, dynamic: untyped}, err
}

// apply applies every document of a YAML file on the server's side.
func (a api) apply(ctx context.Context, text []byte) ([]*unstructured.Unstructured, error) {
	var applied []*unstructured.Unstructured
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return applied, nil
		}
		if err != nil {
			return applied, err
		}
		if object.Object == nil {
			continue
		}
		resource, ok := resources[object.GetKind()]
		if !ok {
			return applied, fmt.Errorf("kind %q has no known resource", object.GetKind())
		}
		client := a.dynamic.Resource(resource).Namespace(object.GetNamespace())
		// The system namespaces appear a moment after the API server is ready.
		err = poll(ctx, func() error {
			_, err := client.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: "spindle-cluster", Force: true})
			return err
		})
		if err != nil {
			return applied, fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err)
		}
		applied = append(applied, object)
	}
}

// applyContourCRDs applies Contour's kinds and waits until the API server serves them.
func (a api) applyContourCRDs(ctx context.Context) error {
	text, err := os.ReadFile(filepath.Join(binDir, contourCRDs))
	if err != nil {
		return err
	}
	crds, err := a.apply(ctx, text)
	if err != nil {
		return err
	}
	client := a.dynamic.Resource(resources["CustomResourceDefinition"])
	for _, crd := range crds {
		err := poll(ctx, func() error {
			got, err := client.Get(ctx, crd.GetName(), metav1.GetOptions{})
			if err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			for _, c := range conditions {
				if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
					return nil
				}
			}
			return fmt.Errorf("custom resource %s is not served yet", crd.GetName())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitNode waits until a node is Ready, and until a pod may be created: that takes the default
// service account.
func (a api) awaitNode(ctx context.Context, n node) error {
	return poll(ctx, func() error {
		node, err := a.typed.CoreV1().Nodes().Get(ctx, n.name(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				return fmt.Errorf("%s: %s", n.name(), condition.Message)
			}
		}
		for _, taint := range node.Spec.Taints {
			return fmt.Errorf("%s has taint %s", n.name(), taint.Key)
		}
		_, err = a.typed.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// poll calls f until it succeeds or the context ends, and then returns f's last error that tells
// more than that the time is over.
func poll(ctx context.Context, f func() error) error {
	last := errors.New("no attempt ended in time")
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not in time: %w", last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
