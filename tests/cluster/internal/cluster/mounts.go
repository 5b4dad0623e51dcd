package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// privateMounts arranges the supervisor's mount namespace. Components then use the paths that they
// are built for, and nothing that they mount or write there reaches the machine:
//
//	/proc              of the new PID namespace
//	/run               empty: containerd's sockets, the pods' network namespaces, iptables' lock
//	/run/spindle       data of the state directory: short paths, however deep the cache is
//	/run/spindle-bin   the programs
//	/var/lib, /var/log data/var-lib and logs of the state directory (kubelet, CNI, pod logs)
//	/proc/sys/…        plain files for the five settings that a kubelet changes machine-wide
func privateMounts(l Layout) error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	// Opened before anything is covered, because the cache may be below one of the covered paths.
	binds := []struct{ source, target string }{
		{l.Data(), dataDir},
		{l.Cache.Bin(), binDir},
		{filepath.Join(l.Data(), "var-lib"), "/var/lib"},
		{l.Logs(), logDir},
	}
	sources := make([]string, len(binds))
	for i, bind := range binds {
		fd, err := unix.Open(bind.source, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", bind.source, err)
		}
		defer unix.Close(fd)
		sources[i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	for i, bind := range binds {
		if strings.HasPrefix(bind.target, "/run/") {
			if err := os.MkdirAll(bind.target, 0o755); err != nil {
				return err
			}
		}
		if err := unix.Mount(sources[i], bind.target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", bind.source, bind.target, err)
		}
	}
	return shadowSysctls()
}

// shadowSysctls covers the settings that a kubelet writes when it starts and that belong to the
// whole machine, not to a namespace, with plain files of the same content.
func shadowSysctls() error {
	const shadows = "/run/spindle-sysctl"
	if err := os.Mkdir(shadows, 0o755); err != nil {
		return err
	}
	for _, name := range []string{
		"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	} {
		real := filepath.Join("/proc/sys", name)
		value, err := os.ReadFile(real)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
		shadow := filepath.Join(shadows, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(shadow, value, 0o644); err != nil {
			return err
		}
		if err := unix.Mount(shadow, real, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", real, err)
		}
	}
	return nil
}
