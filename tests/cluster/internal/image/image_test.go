package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// sample is an image of one script and one directory, whose files are as old as given.
func sample(t *testing.T, age time.Duration) Spec {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("content of "+name), mode); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	write("program", 0o755)
	write("data/b", 0o640)
	write("data/deep/a", 0o600)
	return Spec{
		Name: "spindle.dev/sample:1", User: "65532", Entrypoint: []string{"/bin/program"},
		Files:  []File{{filepath.Join(dir, "program"), "/bin/program"}, {filepath.Join(dir, "data"), "/srv"}},
		Labels: map[string]string{"b": "2", "a": "1"},
	}
}

func TestTheSameInputsGiveTheSameBytes(t *testing.T) {
	dir := t.TempDir()
	first, _, err := Write(sample(t, 0), filepath.Join(dir, "a.tar"))
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Write(sample(t, 48*time.Hour), filepath.Join(dir, "b.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Fatalf("%s differs from %s", first, second)
	}
}

func TestAnUnchangedImageIsNotWrittenAgain(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a.tar")
	spec := sample(t, 0)
	if _, written, err := Write(spec, out); err != nil || !written {
		t.Fatalf("first: written %v, %v", written, err)
	}
	if _, written, err := Write(spec, out); err != nil || written {
		t.Fatalf("second: written %v, %v", written, err)
	}
	spec.Labels["a"] = "changed"
	if _, written, err := Write(spec, out); err != nil || !written {
		t.Fatalf("changed: written %v, %v", written, err)
	}
}

func TestTheArchiveHoldsWhatTheSpecSays(t *testing.T) {
	out := filepath.Join(t.TempDir(), "a.tar")
	if _, _, err := Write(sample(t, 0), out); err != nil {
		t.Fatal(err)
	}
	names, err := Names(out)
	if err != nil || !reflect.DeepEqual(names, []string{"spindle.dev/sample:1"}) {
		t.Fatalf("got %v, %v", names, err)
	}
	archive, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	outer := unpack(t, archive)
	var index []manifest
	if err := json.Unmarshal(outer["manifest.json"].content, &index); err != nil {
		t.Fatal(err)
	}
	layer := unpack(t, outer[index[0].Layers[0]].content)
	for name, want := range map[string]struct {
		mode  int64
		owner int
		text  string
	}{
		"bin/program":   {0o755, 0, "content of program"},
		"srv/deep/a":    {0o644, 0, "content of data/deep/a"},
		"srv/b":         {0o644, 0, "content of data/b"},
		"tmp/":          {0o1777, 0, ""},
		"home/nonroot/": {0o700, nonroot, ""},
		"etc/passwd":    {0o644, 0, accounts["/etc/passwd"]},
	} {
		got, ok := layer[name]
		if !ok || got.mode != want.mode || got.owner != want.owner || string(got.content) != want.text {
			t.Errorf("%s: got %+v %v", name, got, ok)
		}
	}
	var config struct {
		Config struct {
			User       string
			Entrypoint []string
			Labels     map[string]string
		}
	}
	if err := json.Unmarshal(outer[index[0].Config].content, &config); err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532" || config.Config.Entrypoint[0] != "/bin/program" || config.Config.Labels["b"] != "2" {
		t.Errorf("got %+v", config)
	}
}

func TestALibraryThatIsMissingIsNamed(t *testing.T) {
	paths, err := parseLdd("\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n")
	if err != nil || !reflect.DeepEqual(paths, []string{"/lib/libc.so.6", "/lib64/ld.so.2"}) {
		t.Fatalf("got %v, %v", paths, err)
	}
	if _, err := parseLdd("\tlibx.so => not found\n"); err == nil {
		t.Fatal("a missing library was accepted")
	}
}

type unpacked struct {
	mode    int64
	owner   int
	content []byte
}

func unpack(t *testing.T, archive []byte) map[string]unpacked {
	t.Helper()
	all := map[string]unpacked{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all[h.Name] = unpacked{h.Mode, h.Uid, content}
	}
}
