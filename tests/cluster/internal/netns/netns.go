// Package netns makes, enters and removes named network namespaces.
//
// A name is a file in /run/netns that holds the namespace open, as `ip netns` and `nsenter --net`
// expect it. Unlike `ip netns add` this leaves no mount on /run/netns itself behind.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

const directory = "/run/netns"

// Path is the file that names the namespace.
func Path(name string) string { return filepath.Join(directory, name) }

// Exists tells whether the name is taken.
func Exists(name string) bool {
	_, err := os.Lstat(Path(name))
	return err == nil
}

// Create makes a namespace with that name and runs the commands in it. On an error nothing stays.
func Create(name string, commands ...[]string) (err error) {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return err
	}
	file, err := os.OpenFile(Path(name), os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	_ = file.Close()
	done := make(chan error)
	go func() {
		// Never unlocked: the thread, now in the new namespace, ends with this goroutine.
		runtime.LockOSThread()
		done <- createHere(name, commands)
	}()
	if err := <-done; err != nil {
		_ = Delete(name)
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return nil
}

// createHere moves the calling thread into a new namespace, names it and runs commands in it.
func createHere(name string, commands [][]string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	if err := unix.Mount(self, Path(name), "none", unix.MS_BIND, ""); err != nil {
		return err
	}
	return runHere(commands)
}

func runHere(commands [][]string) error {
	for _, argv := range commands {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	return nil
}

// Run runs commands to their ends in the namespace of that name.
func Run(name string, commands ...[]string) error {
	fd, err := unix.Open(Path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	defer unix.Close(fd)
	if err := Do(fd, func() error { return runHere(commands) }); err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return nil
}

// Delete removes the name, and with it the namespace unless a process is still in it. A name that
// does not exist is a success.
func Delete(name string) error {
	path := Path(name)
	for {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			break
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_ = os.Remove(directory) // only when this was the last name
	return nil
}

// Inode identifies the namespace that path names, as in /proc/PID/ns/net. A file that names none,
// because whoever made it died halfway, counts as absent.
func Inode(path string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return 0, unix.ENOENT
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, err
	}
	return st.Ino, nil
}

// Do runs f on a thread in the namespace that fd names: sockets that f opens and processes that it
// starts are in there. f must stay on its goroutine.
func Do(fd int, f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer unix.Close(home)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace: %w", err)
	}
	result := f()
	if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
		// The thread stays locked, so it is thrown away with the goroutine.
		return fmt.Errorf("leave network namespace: %w", err)
	}
	runtime.UnlockOSThread()
	return result
}

// Dial connects to an address (a literal IP and port) inside the namespace.
func Dial(ctx context.Context, fd int, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := Do(fd, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Exec replaces this process by a command inside the namespace: its exit status and the signals it
// gets are the command's own.
func Exec(path string, argv, env []string) error {
	program, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", path, err)
	}
	runtime.LockOSThread()
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return syscall.Exec(program, argv, env)
}
