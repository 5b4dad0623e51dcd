package cluster

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// restartPause is how long a component that died stays down before it is started again.
const restartPause = time.Second

// spec says how to run a component.
type spec struct {
	name string
	// on is the node whose network namespace it is in.
	on   node
	argv []string
	// ready fails until the component does its work.
	ready func(context.Context) error
}

// component is a process that the supervisor keeps running, until it is told not to.
type component struct {
	spec
	reaper *reaper
	env    []string
	netns  int

	mu     sync.Mutex
	wanted bool
	pid    int           // 0 when it does not run
	ended  chan struct{} // closed when the present run has ended
	starts int
}

// start starts the component unless it runs, and does not wait for it.
func (c *component) start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = true
	if c.pid != 0 {
		return nil
	}
	return c.run()
}

// run starts one run; c.mu is held.
func (c *component) run() error {
	out, err := os.OpenFile(filepath.Join(logDir, c.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	pid, done, err := c.reaper.start(command{argv: c.argv, env: c.env, stdout: out, stderr: out, netns: c.netns})
	if err != nil {
		return err
	}
	c.pid, c.ended = pid, make(chan struct{})
	c.starts++
	log.Printf("%s: started as %d", c.name, pid)
	go c.watch(done, c.ended)
	return nil
}

// watch waits for the end of one run, and starts the next when the component is still wanted.
func (c *component) watch(done <-chan unix.WaitStatus, ended chan struct{}) {
	status := <-done
	c.mu.Lock()
	c.pid = 0
	wanted := c.wanted
	close(ended)
	c.mu.Unlock()
	log.Printf("%s: ended: %s", c.name, describe(status))
	if !wanted {
		return
	}
	time.Sleep(restartPause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wanted && c.pid == 0 {
		if err := c.run(); err != nil {
			log.Printf("%s: %v", c.name, err)
		}
	}
}

// stop ends the component and keeps it down. With grace it gets SIGTERM first and SIGKILL when the
// grace is over; without, SIGKILL at once, like a crash.
func (c *component) stop(grace time.Duration) error {
	c.mu.Lock()
	c.wanted = false
	pid, ended := c.pid, c.ended
	if pid == 0 {
		c.mu.Unlock()
		return nil
	}
	first := unix.SIGTERM
	if grace == 0 {
		first = unix.SIGKILL
	}
	// Under the lock the process is not forgotten yet, so the id is its own or a zombie's.
	err := unix.Kill(pid, first)
	c.mu.Unlock()
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	for _, wait := range []time.Duration{grace, 10 * time.Second} {
		select {
		case <-ended:
			return nil
		case <-time.After(wait):
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return fmt.Errorf("%s: process %d does not end", c.name, pid)
}

// awaitReady waits until the component does its work. It fails early when the component keeps
// dying.
func (c *component) awaitReady(ctx context.Context) error {
	const tooMany = 8
	var last error
	for before := c.startCount(); ; {
		attempt, cancel := context.WithTimeout(ctx, 3*time.Second)
		last = c.ready(attempt)
		cancel()
		if last == nil {
			return nil
		}
		if c.startCount()-before > tooMany {
			return fmt.Errorf("%s keeps ending: see its log: %w", c.name, last)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", c.name, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *component) startCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starts
}
