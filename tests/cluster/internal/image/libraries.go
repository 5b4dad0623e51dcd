package image

import (
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// architecture is Go's and the OCI specification's common word for this machine's processor.
func architecture() string { return runtime.GOARCH }

// Libraries returns what a program needs beside itself to start: the dynamic loader and every
// shared library, each at the path where the loader of the host found it. None for a static one.
func Libraries(program string) ([]File, error) {
	binary, err := elf.Open(program)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	defer binary.Close()
	dynamic := false
	for _, segment := range binary.Progs {
		dynamic = dynamic || segment.Type == elf.PT_INTERP
	}
	if !dynamic {
		return nil, nil
	}
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	paths, err := parseLdd(string(out))
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w", program, err)
	}
	var files []File
	for _, path := range paths {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, err
		}
		files = append(files, File{Source: real, Destination: path})
	}
	return files, nil
}

// parseLdd reads ldd's lines: `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)` for the loader, and
// `NAME (ADDRESS)` for what the kernel itself provides.
func parseLdd(out string) ([]string, error) {
	var paths []string
	for _, line := range strings.Split(out, "\n") {
		line = strings.TrimSpace(line)
		if name, target, ok := strings.Cut(line, " => "); ok {
			if strings.HasPrefix(target, "not found") {
				return nil, fmt.Errorf("library %s is not installed", name)
			}
			line = target
		}
		path, _, _ := strings.Cut(line, " (")
		if strings.HasPrefix(path, "/") {
			paths = append(paths, path)
		}
	}
	return paths, nil
}
