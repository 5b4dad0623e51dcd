package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAFileThatNamesNoNamespaceHasNoInode(t *testing.T) {
	half := filepath.Join(t.TempDir(), "half")
	if err := os.WriteFile(half, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{half, half + "-absent"} {
		if _, err := Inode(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v", path, err)
		}
	}
	if _, err := Inode("/proc/self/ns/net"); err != nil {
		t.Errorf("this process's own namespace: %v", err)
	}
}

func TestANamespaceIsEnteredForOneCallAndLeavesNothingBehind(t *testing.T) {
	// Another run of the same test may be on this machine, or have been killed there.
	name := fmt.Sprintf("spindle-test-%d", os.Getpid())
	if err := Create(name, []string{"ip", "link", "add", "probe0", "type", "bridge"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = Delete(name) })
	fd, err := unix.Open(Path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	sees := func() bool {
		_, err := net.InterfaceByName("probe0")
		return err == nil
	}
	inside := false
	if err := Do(fd, func() error { inside = sees(); return nil }); err != nil {
		t.Fatal(err)
	}
	if !inside || sees() {
		t.Errorf("inside sees the link: %v; outside: %v", inside, sees())
	}
	if err := Create(name); err == nil {
		t.Error("a name that is taken was given again")
	}
	if err := Delete(name); err != nil || Exists(name) {
		t.Errorf("after delete: %v, exists %v", err, Exists(name))
	}
	if err := Delete(name); err != nil {
		t.Errorf("a second delete: %v", err)
	}
}
