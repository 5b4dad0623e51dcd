package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// hierarchies lists where control groups are mounted, of version 1 and 2.
func hierarchies() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return parseHierarchies(mounts), nil
}

// parseHierarchies reads proc_pid_mountinfo(5): field 5 is the mount point, and the file system's
// type follows the lone dash.
func parseHierarchies(mountinfo []byte) []string {
	var dirs []string
	for lines := bufio.NewScanner(bytes.NewReader(mountinfo)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		kind, _, _ := strings.Cut(after, " ")
		if ok && len(fields) >= 5 && (kind == "cgroup" || kind == "cgroup2") {
			dirs = append(dirs, fields[4])
		}
	}
	return dirs
}

// createCgroups makes the group below which a kubelet keeps its pods, in every hierarchy. The group above it, if
// it has one, must be there. The weight is that of cgroup version 1, where one process has 1024.
func createCgroups(name string, weight int) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	if len(dirs) == 0 {
		return errors.New("no control groups are mounted; a kubelet can't run here")
	}
	for _, dir := range dirs {
		group := filepath.Join(dir, name)
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("control group: %w", err)
		}
		for file, value := range map[string]int{"cpu.shares": weight, "cpu.weight": weight * 100 / 1024} {
			if _, err := os.Stat(filepath.Join(group, file)); err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(value)), 0o644); err != nil {
				return fmt.Errorf("control group: %w", err)
			}
		}
		// A cpuset of version 1 starts empty, and no process may join an empty one.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			parent, err := os.ReadFile(filepath.Join(filepath.Dir(group), file))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, file), parent, 0o644); err != nil {
				return fmt.Errorf("control group: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups removes the group and all below it. Its processes must have ended; the kernel may
// still be busy with the last one.
func removeCgroups(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	var failed error
	for _, dir := range dirs {
		failed = errors.Join(failed, removeGroup(filepath.Join(dir, name), time.Now().Add(10*time.Second)))
	}
	return failed
}

func removeGroup(group string, deadline time.Time) error {
	children, err := os.ReadDir(group)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range children {
		if child.IsDir() {
			if err := removeGroup(filepath.Join(group, child.Name()), deadline); err != nil {
				return err
			}
		}
	}
	for {
		err := unix.Rmdir(group)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("control group %s: %w", group, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
