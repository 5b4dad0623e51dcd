// Package proc names processes so that a stale process id is never mistaken for another process,
// and stops them.
//
// A process id alone is reused by the kernel. An Identity adds when the process started and in
// which boot, so a record on disk either names exactly the process it was written for, or nothing.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Identity names one process, for good.
type Identity struct {
	// PID is the process id as seen in this process's own PID namespace.
	PID int `json:"pid"`
	// StartTicks is field 22 of /proc/PID/stat: clock ticks between boot and the process's start.
	StartTicks uint64 `json:"start_ticks"`
	// BootID is /proc/sys/kernel/random/boot_id at the time.
	BootID string `json:"boot_id"`
}

// Of returns the identity of the process that has this id now.
func Of(pid int) (Identity, error) {
	ticks, _, err := readStat(pid)
	if err != nil {
		return Identity{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, StartTicks: ticks, BootID: boot}, nil
}

// Alive tells whether exactly this process still runs. A zombie does not run.
func (id Identity) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	boot, err := bootID()
	if err != nil || boot != id.BootID {
		return false
	}
	ticks, state, err := readStat(id.PID)
	return err == nil && ticks == id.StartTicks && state != 'Z' && state != 'X'
}

// Stop sends sig to exactly this process and waits until it is gone, at most for the given time.
// A process that is already gone is a success.
func (id Identity) Stop(sig unix.Signal, wait time.Duration) error {
	if !id.Alive() {
		return nil
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_open %d: %w", id.PID, err)
	}
	defer unix.Close(fd)
	// From here on the descriptor names one process; look once more that it is the right one.
	if !id.Alive() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d: %w", id.PID, err)
	}
	deadline := time.Now().Add(wait)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("process %d still runs %s after %s", id.PID, wait, unix.SignalName(sig))
		}
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(polled, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for %d: %w", id.PID, err)
		}
		if n > 0 {
			return nil
		}
	}
}

// Running lists every process that match accepts, given the process's directory in /proc.
// Processes that end while the list is made are left out, and so is the caller itself.
func Running(match func(procDir string) bool) []Identity {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var found []Identity
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || !match(dir) {
			continue
		}
		if id, err := Of(pid); err == nil {
			found = append(found, id)
		}
	}
	return found
}

// HasEnv is a match for Running: the process was started with KEY=value in its environment.
func HasEnv(key, value string) func(string) bool {
	want := []byte(key + "=" + value)
	return func(dir string) bool {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			return false
		}
		for _, entry := range bytes.Split(env, []byte{0}) {
			if bytes.Equal(entry, want) {
				return true
			}
		}
		return false
	}
}

// Env returns one variable of the environment that a process was started with.
func Env(pid int, key string) (string, bool) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", false
	}
	for _, entry := range strings.Split(string(env), "\x00") {
		if value, ok := strings.CutPrefix(entry, key+"="); ok {
			return value, true
		}
	}
	return "", false
}

// InNetns is a match for Running: the process is in the network namespace with this inode.
func InNetns(inode uint64) func(string) bool {
	want := fmt.Sprintf("net:[%d]", inode)
	return func(dir string) bool {
		link, err := os.Readlink(filepath.Join(dir, "ns/net"))
		return err == nil && link == want
	}
}

// readStat returns the start time and the state letter from /proc/PID/stat.
func readStat(pid int) (ticks uint64, state byte, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(stat)
}

// parseStat reads proc_pid_stat(5). The second field is the command in parentheses and may itself
// hold blanks and parentheses, so fields are counted from the last closing one.
func parseStat(stat []byte) (ticks uint64, state byte, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("malformed stat %q", stat)
	}
	fields := strings.Fields(string(stat[end+1:]))
	const stateField, startField = 3 - 3, 22 - 3
	if len(fields) <= startField {
		return 0, 0, fmt.Errorf("malformed stat %q", stat)
	}
	ticks, err = strconv.ParseUint(fields[startField], 10, 64)
	return ticks, fields[stateField][0], err
}

func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
