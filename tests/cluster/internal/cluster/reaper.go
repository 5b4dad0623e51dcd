package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"spindle.dev/tests/cluster/internal/netns"
)

// reaper waits for every child of the supervisor. As the first process of its PID namespace the
// supervisor also inherits orphans (containerd's shims, what pods leave), so it can't use
// os/exec's own waiting: only one place may wait.
type reaper struct {
	mu      sync.Mutex
	waiting map[int]chan<- unix.WaitStatus
}

// newReaper starts to wait.
func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan<- unix.WaitStatus{}}
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	go func() {
		for range children {
			r.collect()
		}
	}()
	return r
}

// collect takes every child that has ended. Signals merge, so one may stand for many.
func (r *reaper) collect() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		r.mu.Lock()
		done, ours := r.waiting[pid]
		delete(r.waiting, pid)
		r.mu.Unlock()
		if ours {
			done <- status
		}
	}
}

// command is a process to start.
type command struct {
	argv                  []string
	env                   []string
	stdin, stdout, stderr *os.File
	// netns is the descriptor of the network namespace to start in; 0 for the supervisor's own.
	netns int
}

// start starts a process. The channel yields its status when it has ended.
func (r *reaper) start(c command) (pid int, done <-chan unix.WaitStatus, err error) {
	program, err := exec.LookPath(c.argv[0])
	if err != nil {
		return 0, nil, err
	}
	if c.stdin == nil {
		null, err := os.Open(os.DevNull)
		if err != nil {
			return 0, nil, err
		}
		defer null.Close()
		c.stdin = null
	}
	ended := make(chan unix.WaitStatus, 1)
	// Held until the process is known, so that its end can't be collected before.
	r.mu.Lock()
	defer r.mu.Unlock()
	run := func() error {
		process, err := os.StartProcess(program, c.argv, &os.ProcAttr{
			Dir: "/", Env: c.env, Files: []*os.File{c.stdin, c.stdout, c.stderr},
		})
		if err != nil {
			return err
		}
		pid = process.Pid
		return process.Release()
	}
	if c.netns != 0 {
		err = netns.Do(c.netns, run)
	} else {
		err = run()
	}
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", c.argv[0], err)
	}
	r.waiting[pid] = ended
	return pid, ended, nil
}

// describe puts a status into words.
func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
