// Package image writes container images without a builder: a docker-archive tar of one layer that
// holds a program, the shared libraries it needs, and the few files that programs expect.
//
// Promise: the same inputs give the same bytes, whenever and wherever the file is written.
// Deliberately absent: base images, several layers, compression, registries.
package image

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Spec says what goes into an image.
type Spec struct {
	// Name is the reference that the image gets where it is loaded, for example "spindle.dev/app:1".
	Name string
	// Files are copied from the host. A directory is copied with all it holds.
	Files []File
	// Entrypoint and Cmd are the image's own; WorkDir defaults to "/".
	Entrypoint, Cmd []string
	WorkDir         string
	// Env holds KEY=value; PATH is set unless given.
	Env []string
	// User is numeric, so that Kubernetes can check runAsNonRoot: "65532" or "65532:65532".
	User string
	// Labels become the image's labels.
	Labels map[string]string
	// Bare leaves out /tmp, /etc/passwd and the like: for an image that is one static program.
	Bare bool
}

// File is a file or directory of the host and where it goes.
type File struct{ Source, Destination string }

// nonroot is the user id that distroless images made customary.
const nonroot = 65532

// accounts are the files that make user names and host names resolve. Without nsswitch.conf glibc
// asks DNS before /etc/hosts.
var accounts = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\n" +
		"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
	"/etc/group":         "root:x:0:\nnonroot:x:65532:\n",
	"/etc/nsswitch.conf": "hosts: files dns\n",
}

// certificates is where Debian, and OpenSSL and rustls after it, look for trusted authorities.
const certificates = "/etc/ssl/certs/ca-certificates.crt"

// Write writes the image to out, unless out already holds exactly these bytes. It returns the
// SHA-256 of the file and whether it was written.
func Write(spec Spec, out string) (digest string, written bool, err error) {
	entries, err := spec.entries()
	if err != nil {
		return "", false, err
	}
	temporary, err := os.CreateTemp(filepath.Dir(out), "."+filepath.Base(out)+".*")
	if err != nil {
		return "", false, err
	}
	defer os.Remove(temporary.Name())
	defer temporary.Close()
	sum := sha256.New()
	if err := writeArchive(io.MultiWriter(temporary, sum), spec, entries); err != nil {
		return "", false, err
	}
	if err := temporary.Close(); err != nil {
		return "", false, err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	if old, err := Digest(out); err == nil && old == digest {
		return digest, false, nil
	}
	if err := os.Chmod(temporary.Name(), 0o644); err != nil {
		return "", false, err
	}
	return digest, true, os.Rename(temporary.Name(), out)
}

// Digest returns the SHA-256 of a file.
func Digest(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Names returns the references that a docker-archive holds.
func Names(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: no manifest.json: not a docker-archive", file)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if header.Name != "manifest.json" {
			continue
		}
		var manifests []manifest
		if err := json.NewDecoder(r).Decode(&manifests); err != nil {
			return nil, fmt.Errorf("%s: manifest.json: %w", file, err)
		}
		var names []string
		for _, m := range manifests {
			names = append(names, m.RepoTags...)
		}
		return names, nil
	}
}

// entry is one file or directory of the layer.
type entry struct {
	source  string // a file of the host, or ""
	content []byte // when there is no source
	mode    int64
	dir     bool
	owner   int
}

// entries collects the layer by destination.
func (spec Spec) entries() (map[string]entry, error) {
	all := map[string]entry{}
	if !spec.Bare {
		all["/tmp"] = entry{dir: true, mode: 0o1777}
		all["/home/nonroot"] = entry{dir: true, mode: 0o700, owner: nonroot}
		for name, content := range accounts {
			all[name] = entry{content: []byte(content), mode: 0o644}
		}
		if _, err := os.Stat(certificates); err == nil {
			all[certificates] = entry{source: certificates, mode: 0o644}
		}
	}
	for _, file := range spec.Files {
		if err := addTree(all, file); err != nil {
			return nil, err
		}
	}
	for name := range all {
		for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
			if _, ok := all[dir]; !ok {
				all[dir] = entry{dir: true, mode: 0o755}
			}
		}
	}
	return all, nil
}

// addTree adds a file, or a directory with all it holds. Of the host's mode only the owner's
// execute bit counts; links are followed.
func addTree(all map[string]entry, file File) error {
	info, err := os.Stat(file.Source)
	if err != nil {
		return err
	}
	destination := path.Clean("/" + file.Destination)
	if !info.IsDir() {
		mode := int64(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		all[destination] = entry{source: file.Source, mode: mode}
		return nil
	}
	all[destination] = entry{dir: true, mode: 0o755}
	children, err := os.ReadDir(file.Source)
	if err != nil {
		return err
	}
	for _, child := range children {
		inside := File{filepath.Join(file.Source, child.Name()), path.Join(destination, child.Name())}
		if err := addTree(all, inside); err != nil {
			return err
		}
	}
	return nil
}

// manifest is one element of a docker-archive's manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// writeArchive writes the outer tar: configuration, layer, manifest, in an order that is fixed.
func writeArchive(w io.Writer, spec Spec, entries map[string]entry) error {
	layer, err := os.CreateTemp("", "layer")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := writeLayer(io.MultiWriter(layer, sum), entries); err != nil {
		return err
	}
	layerDigest := hex.EncodeToString(sum.Sum(nil))
	config, err := json.Marshal(configuration(spec, layerDigest))
	if err != nil {
		return err
	}
	configSum := sha256.Sum256(config)
	configName := hex.EncodeToString(configSum[:]) + ".json"
	index, err := json.Marshal([]manifest{{configName, []string{spec.Name}, []string{layerDigest + "/layer.tar"}}})
	if err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, part := range []struct {
		name    string
		content io.Reader
		size    int64
	}{
		{"manifest.json", bytes.NewReader(index), int64(len(index))},
		{configName, bytes.NewReader(config), int64(len(config))},
		{layerDigest + "/layer.tar", layer, size},
	} {
		if err := archive.WriteHeader(header(part.name, 0o644, part.size, 0)); err != nil {
			return err
		}
		if _, err := io.Copy(archive, part.content); err != nil {
			return err
		}
	}
	return archive.Close()
}

// writeLayer writes the files sorted by name, so that every directory precedes what is in it.
func writeLayer(w io.Writer, entries map[string]entry) error {
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	sort.Strings(names)
	layer := tar.NewWriter(w)
	for _, name := range names {
		if err := writeEntry(layer, strings.TrimPrefix(name, "/"), entries[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return layer.Close()
}

func writeEntry(layer *tar.Writer, name string, e entry) error {
	if e.dir {
		h := header(name+"/", e.mode, 0, e.owner)
		h.Typeflag = tar.TypeDir
		return layer.WriteHeader(h)
	}
	if e.source == "" {
		if err := layer.WriteHeader(header(name, e.mode, int64(len(e.content)), e.owner)); err != nil {
			return err
		}
		_, err := layer.Write(e.content)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := layer.WriteHeader(header(name, e.mode, info.Size(), e.owner)); err != nil {
		return err
	}
	_, err = io.Copy(layer, f)
	return err
}

func header(name string, mode, size int64, owner int) *tar.Header {
	return &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, Uid: owner, Gid: owner,
		ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
	}
}

// configuration is the image configuration of the OCI image specification, in Docker's spelling.
func configuration(spec Spec, layerDigest string) any {
	env := spec.Env
	if !hasPath(env) {
		env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin"}, env...)
	}
	workDir := spec.WorkDir
	if workDir == "" {
		workDir = "/"
	}
	return struct {
		Architecture string         `json:"architecture"`
		OS           string         `json:"os"`
		Created      string         `json:"created"`
		Config       map[string]any `json:"config"`
		RootFS       map[string]any `json:"rootfs"`
		History      []any          `json:"history"`
	}{
		Architecture: architecture(), OS: "linux", Created: "1970-01-01T00:00:00Z",
		Config: map[string]any{
			"Entrypoint": spec.Entrypoint, "Cmd": spec.Cmd, "Env": env, "User": spec.User,
			"WorkingDir": workDir, "Labels": spec.Labels,
		},
		RootFS:  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + layerDigest}},
		History: []any{map[string]string{"created": "1970-01-01T00:00:00Z", "created_by": "spindle-cluster image"}},
	}
}

func hasPath(env []string) bool {
	for _, entry := range env {
		if strings.HasPrefix(entry, "PATH=") {
			return true
		}
	}
	return false
}
