package proc

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, env ...string) (*exec.Cmd, Identity) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, id
}

func TestARunningProcessIsAliveUntilItIsStopped(t *testing.T) {
	_, id := start(t)
	if !id.Alive() {
		t.Fatal("a running process counts as dead")
	}
	if err := id.Stop(unix.SIGTERM, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Fatal("a stopped process, not reaped yet, counts as alive")
	}
}

func TestAnotherProcessWithTheSameIdIsNeitherAliveNorStopped(t *testing.T) {
	_, id := start(t)
	for what, stale := range map[string]Identity{
		"started earlier": {PID: id.PID, StartTicks: id.StartTicks - 1, BootID: id.BootID},
		"another boot":    {PID: id.PID, StartTicks: id.StartTicks, BootID: "another"},
		"no process":      {},
	} {
		if stale.Alive() {
			t.Errorf("%s: counts as alive", what)
		}
		if err := stale.Stop(unix.SIGKILL, time.Second); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if !id.Alive() {
		t.Fatal("a stale identity stopped a process that it does not name")
	}
}

func TestProcessesAreFoundByTheirWholeEnvironmentEntry(t *testing.T) {
	// Another run of the same test may be on this machine.
	dir := t.TempDir()
	_, id := start(t, "SPINDLE_PROC_TEST="+dir+"/b")
	if found := Running(HasEnv("SPINDLE_PROC_TEST", dir+"/b")); len(found) != 1 || found[0] != id {
		t.Fatalf("found %v, want %v", found, id)
	}
	if found := Running(HasEnv("SPINDLE_PROC_TEST", dir)); len(found) != 0 {
		t.Fatalf("a prefix matched: %v", found)
	}
	if value, ok := Env(id.PID, "SPINDLE_PROC_TEST"); !ok || value != dir+"/b" {
		t.Fatalf("got %q %v", value, ok)
	}
}

func TestACommandNameWithParenthesesDoesNotShiftTheFields(t *testing.T) {
	stat := []byte("7 (a) (b c) S 1 7 7 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 987654 1 2")
	ticks, state, err := parseStat(stat)
	if err != nil || ticks != 987654 || state != 'S' {
		t.Fatalf("got %d %c %v", ticks, state, err)
	}
	if _, _, err := parseStat([]byte("7 (a")); err == nil {
		t.Fatal("a malformed line was accepted")
	}
}
