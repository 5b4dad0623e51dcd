package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"spindle.dev/tests/cluster/internal/cluster"
	"spindle.dev/tests/cluster/internal/image"
	"spindle.dev/tests/cluster/internal/netns"
)

// runCLI runs the orchestrator and returns the process's exit status.
func runCLI() int {
	root := &cobra.Command{
		Use:           "spindle-cluster",
		Short:         "A real Kubernetes cluster for tests and the demo, in namespaces of its own",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(), downCommand(), statusCommand(), execCommand(), loadCommand(), imageCommand(),
		stopComponentCommand(), startComponentCommand(), restartComponentCommand(), superviseCommand())
	if err := root.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "spindle-cluster:", err)
		return 1
	}
	return 0
}

// forCluster makes a command that works on the cluster that --name names.
func forCluster(cmd *cobra.Command, run func(l cluster.Layout, args []string) error) *cobra.Command {
	name := cmd.Flags().String("name", "spindle", "name of the cluster, unique on the machine")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		cache, err := cluster.DefaultCache()
		if err != nil {
			return err
		}
		layout, err := cache.Cluster(*name)
		if err != nil {
			return err
		}
		return run(layout, args)
	}
	return cmd
}

func upCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "up", Short: "Bring a cluster up, or find it up, and load images", Args: cobra.NoArgs}
	options := cluster.Options{Out: os.Stdout}
	cmd.Flags().StringArrayVar(&options.Images, "image", nil, "docker-archive `FILE` to load; may be repeated")
	cmd.Flags().IntVar(&options.APIPort, "api-port", 0, "port of the API server on 127.0.0.1 (default 16443 if free, else any)")
	cmd.Flags().IntVar(&options.IngressPort, "ingress-port", 0, "port of the ingress on 127.0.0.1 (default 8088 if free, else any)")
	cmd.Flags().BoolVar(&options.KeepGoing, "keep-going", false, "leave a cluster that did not come up running, to look at it")
	cmd.Flags().IntVar(&options.Nodes, "nodes", 1, "number of nodes; the first has the control plane and pods, like the others")
	return forCluster(cmd, func(l cluster.Layout, _ []string) error {
		status, err := l.Up(options)
		if err != nil {
			return err
		}
		printStatus(os.Stdout, status)
		return nil
	})
}

func downCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "down", Short: "End a cluster, in whatever state it is, and leave nothing behind", Args: cobra.NoArgs}
	keepLogs := cmd.Flags().Bool("keep-logs", false, "leave the directory with the logs")
	return forCluster(cmd, func(l cluster.Layout, _ []string) error { return l.Down(*keepLogs) })
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "status", Short: "Tell whether a cluster is up (exit status 0) and how to reach it", Args: cobra.NoArgs}
	output := cmd.Flags().StringP("output", "o", "text", "text or json")
	return forCluster(cmd, func(l cluster.Layout, _ []string) error {
		status, err := l.Running()
		if err != nil {
			return err
		}
		client, err := l.Connect()
		if err != nil {
			return err
		}
		components, err := client.Components()
		if err != nil {
			return err
		}
		switch *output {
		case "json":
			return json.NewEncoder(os.Stdout).Encode(struct {
				cluster.Status
				Components []cluster.ComponentState `json:"components"`
			}{status, components})
		case "text":
			printStatus(os.Stdout, status)
			printComponents(os.Stdout, components)
			return nil
		}
		return fmt.Errorf("--output %s: text or json", *output)
	})
}

func execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec --name NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command in the cluster's network namespace, with KUBECONFIG set",
		Args:  cobra.MinimumNArgs(1),
	}
	cmd.Flags().SetInterspersed(false)
	node := cmd.Flags().Int("node", 1, "the node in whose network namespace it is to run")
	return forCluster(cmd, func(l cluster.Layout, args []string) error {
		status, err := l.Running()
		if err != nil {
			return err
		}
		path := status.BinDir + string(filepath.ListSeparator) + os.Getenv("PATH")
		if err := os.Setenv("PATH", path); err != nil {
			return err
		}
		if err := os.Setenv("KUBECONFIG", status.InsideKubeconfig); err != nil {
			return err
		}
		if *node < 1 || *node > status.Nodes {
			return fmt.Errorf("--node %d: the cluster has %d", *node, status.Nodes)
		}
		return netns.Exec(netns.Path(l.NodeNetns(*node)), args, os.Environ())
	})
}

func loadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "load --name NAME FILE.tar...",
		Short: "Load docker-archives into every node, unless it has just these",
		Args:  cobra.MinimumNArgs(1),
	}
	return forCluster(cmd, func(l cluster.Layout, files []string) error {
		client, err := l.Connect()
		if err != nil {
			return err
		}
		return client.Load(files, func(_ string, names []string, loaded bool) {
			verb := "has"
			if loaded {
				verb = "loaded"
			}
			fmt.Println(verb, strings.Join(names, " "))
		})
	})
}

func stopComponentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop-component --name NAME COMPONENT",
		Short: "End one component and keep it down, until start-component",
		Args:  cobra.ExactArgs(1),
	}
	kill := cmd.Flags().Bool("kill", false, "with SIGKILL, like a crash; without, SIGTERM and 20 s of grace")
	return forCluster(cmd, func(l cluster.Layout, args []string) error {
		client, err := l.Connect()
		if err != nil {
			return err
		}
		return client.StopComponent(args[0], *kill)
	})
}

func startComponentCommand() *cobra.Command {
	return forCluster(&cobra.Command{
		Use:   "start-component --name NAME COMPONENT",
		Short: "Start one component and wait until it does its work",
		Args:  cobra.ExactArgs(1),
	}, func(l cluster.Layout, args []string) error {
		client, err := l.Connect()
		if err != nil {
			return err
		}
		return client.StartComponent(args[0])
	})
}

func restartComponentCommand() *cobra.Command {
	return forCluster(&cobra.Command{
		Use:   "restart-component --name NAME COMPONENT",
		Short: "End one component gently, start it again and wait until it does its work",
		Args:  cobra.ExactArgs(1),
	}, func(l cluster.Layout, args []string) error {
		client, err := l.Connect()
		if err != nil {
			return err
		}
		return client.RestartComponent(args[0])
	})
}

func superviseCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "supervise", Hidden: true, Args: cobra.NoArgs}
	nodes := cmd.Flags().Int("nodes", 1, "number of nodes")
	return forCluster(cmd, func(l cluster.Layout, _ []string) error { return cluster.Supervise(l, *nodes) })
}

func imageCommand() *cobra.Command {
	var spec image.Spec
	var binaries, files, labels []string
	var out string
	cmd := &cobra.Command{
		Use:   "image --name REPO:TAG --binary PATH[:DEST] --out FILE.tar",
		Short: "Write a FROM scratch image of programs with the shared libraries that they need",
		Args:  cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&spec.Name, "name", "", "reference of the image, `REPO:TAG`")
	flags.StringArrayVar(&binaries, "binary", nil, "program `PATH[:DEST]`; DEST defaults to /usr/local/bin/BASENAME; may be repeated")
	flags.StringArrayVar(&files, "file", nil, "file or directory `SRC:DEST`; may be repeated")
	flags.StringArrayVar(&spec.Entrypoint, "entrypoint", nil, "entry point, one flag per word (default the first program)")
	flags.StringArrayVar(&spec.Cmd, "cmd", nil, "default arguments, one flag per word")
	flags.StringArrayVar(&spec.Env, "env", nil, "environment `KEY=VALUE`; may be repeated")
	flags.StringVar(&spec.WorkDir, "workdir", "/", "working directory")
	flags.StringVar(&spec.User, "user", "65532", "numeric user, or user:group")
	flags.StringArrayVar(&labels, "label", nil, "label `KEY=VALUE`; may be repeated")
	flags.StringVar(&out, "out", "", "docker-archive `FILE` to write; left alone when it would not change")
	for _, required := range []string{"name", "binary", "out"} {
		if err := cmd.MarkFlagRequired(required); err != nil {
			panic(err) // a flag of that name is defined above
		}
	}
	cmd.RunE = func(*cobra.Command, []string) error {
		if err := fillSpec(&spec, binaries, files, labels); err != nil {
			return err
		}
		digest, written, err := image.Write(spec, out)
		if err != nil {
			return err
		}
		verb := "unchanged"
		if written {
			verb = "wrote"
		}
		fmt.Printf("%s %s: %s sha256:%s\n", verb, out, spec.Name, digest)
		return nil
	}
	return cmd
}

// fillSpec turns the repeated flags of `image` into the image's files, entry point and labels.
func fillSpec(spec *image.Spec, binaries, files, labels []string) error {
	for _, binary := range binaries {
		source, destination, ok := strings.Cut(binary, ":")
		if !ok {
			destination = "/usr/local/bin/" + filepath.Base(source)
		}
		libraries, err := image.Libraries(source)
		if err != nil {
			return err
		}
		spec.Files = append(append(spec.Files, libraries...), image.File{Source: source, Destination: destination})
		if len(spec.Entrypoint) == 0 {
			spec.Entrypoint = []string{destination}
		}
	}
	for _, file := range files {
		source, destination, ok := strings.Cut(file, ":")
		if !ok {
			return fmt.Errorf("--file %s: want SRC:DEST", file)
		}
		spec.Files = append(spec.Files, image.File{Source: source, Destination: destination})
	}
	spec.Labels = map[string]string{}
	for _, label := range labels {
		key, value, ok := strings.Cut(label, "=")
		if !ok {
			return fmt.Errorf("--label %s: want KEY=VALUE", label)
		}
		spec.Labels[key] = value
	}
	return nil
}

func printStatus(w io.Writer, s cluster.Status) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "cluster\t%s\nkubeconfig\t%s\ningress\t%s\ninside\tspindle-cluster exec --name %s -- COMMAND (ingress %s)\nlogs\t%s\n",
		s.Name, s.Kubeconfig, s.IngressURL, s.Name, s.InsideIngressURL, s.LogDir)
	_ = table.Flush()
}

func printComponents(w io.Writer, components []cluster.ComponentState) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range components {
		state := "running"
		if !c.Running {
			state = "stopped"
		}
		fmt.Fprintf(table, "%s\t%s\tstarted %d time(s)\n", c.Name, state, c.Starts)
	}
	_ = table.Flush()
}
