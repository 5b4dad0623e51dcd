package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"spindle.dev/tests/cluster/internal/netns"
	"spindle.dev/tests/cluster/internal/proc"
)

// Down ends the cluster and removes all that is of it, whatever state it is in. With keepLogs the
// directory of the logs stays.
func (l Layout) Down(keepLogs bool) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return l.remove(keepLogs)
}

// remove does Down's work. Every step looks for what is there, so it may follow any crash.
func (l Layout) remove(keepLogs bool) error {
	return errors.Join(
		l.endProcesses(),
		l.endVisitors(),
		l.removeNetworks(),
		removeCgroups(l.Cgroup()),
		l.removeState(keepLogs),
	)
}

// endProcesses ends the supervisor, and with it every process of its PID namespace: the kernel
// reports its end only when all others are gone. Then it looks for processes that carry the
// cluster's mark, in case the record of the supervisor was never written.
func (l Layout) endProcesses() error {
	var failed error
	if r, err := l.readRecord(); err == nil {
		failed = r.Supervisor.Stop(unix.SIGKILL, 30*time.Second)
	}
	for _, id := range proc.Running(proc.HasEnv(stateVariable, l.Dir)) {
		failed = errors.Join(failed, id.Stop(unix.SIGKILL, 30*time.Second))
	}
	return failed
}

// endVisitors ends what `exec` started in the cluster's network namespaces and that still runs.
func (l Layout) endVisitors() error {
	var failed error
	for _, n := range nodes(maxNodes) {
		inode, err := netns.Inode(netns.Path(l.netns(n)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		for _, id := range proc.Running(proc.InNetns(inode)) {
			if id.Stop(unix.SIGTERM, 2*time.Second) != nil {
				failed = errors.Join(failed, id.Stop(unix.SIGKILL, 5*time.Second))
			}
		}
	}
	return failed
}

// removeNetworks removes the names of every node's network namespace.
func (l Layout) removeNetworks() error {
	var failed error
	for _, n := range nodes(maxNodes) {
		failed = errors.Join(failed, netns.Delete(l.netns(n)))
	}
	return failed
}

// removeState removes the state directory, and the directory of all clusters when this was the
// last. Nothing is mounted below it in this mount namespace: all mounts were the supervisor's.
func (l Layout) removeState(keepLogs bool) error {
	entries, err := os.ReadDir(l.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed error
	for _, entry := range entries {
		if keepLogs && entry.Name() == filepath.Base(l.Logs()) {
			continue
		}
		failed = errors.Join(failed, os.RemoveAll(filepath.Join(l.Dir, entry.Name())))
	}
	if failed != nil {
		return fmt.Errorf("state directory: %w", failed)
	}
	if !keepLogs {
		failed = os.Remove(l.Dir)
		_ = os.Remove(filepath.Dir(l.Dir))
	}
	return failed
}
