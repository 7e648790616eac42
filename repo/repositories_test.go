package repo

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

var update = flag.Bool("update", false, "write the repositories in testdata anew")

// kept is a repository that was written once, under testdata/repositories: NAME.tar has its objects, NAME.txt
// what stands in it. Its password is that of all tests.
//
//	snapshot ID                  a live snapshot, followed by all it reaches:
//	blob CLASS/ID HASH           what a blob holds
//	damage OBJECT                where a check finds damage
type kept struct {
	bucket *mem.Bucket
	says   string
}

// repositories makes those that are kept, by name.
func repositories(t *testing.T) map[string]*specimen {
	t.Helper()
	plain := &specimen{bucket: mem.New(), live: map[journal.SnapshotID][]written{}}
	plain.init(t)
	for i := range uint64(2) {
		plain.snapshot(t, share{contents: [][]byte{[]byte("a chunk of a file"), noise(i, 3000)}, secret: []byte("hunter2")})
	}
	damaged := newSpecimen(t, 3)
	sizes, spoilt := names(t, damaged.bucket), ""
	for name, size := range sizes {
		if strings.HasPrefix(name, journal.PackFolder) && size > sizes[spoilt] {
			spoilt = name
		}
	}
	if err := damaged.bucket.Damage(spoilt, func(d []byte) []byte { d[len(d)/2] ^= 1; return d }); err != nil {
		t.Fatal(err)
	}
	if err := damaged.bucket.Delete(t.Context(), damaged.newest(journal.SegmentFolder)); err != nil {
		t.Fatal(err)
	}
	return map[string]*specimen{"v0-plain": plain, "v0-worked": newSpecimen(t, 2), "v0-damaged": damaged}
}

// Every repository that was kept is listed, read, checked, backed up into, pruned and read again.
func TestKeptRepositoriesStayOfUse(t *testing.T) {
	if *update {
		for name, s := range repositories(t) {
			keep(t, name, s)
		}
	}
	files, err := filepath.Glob("testdata/repositories/*.tar")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d repositories are kept: %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".tar")
		t.Run(name, func(t *testing.T) {
			k := openKept(t, name)
			r := reopen(t, k.bucket, "")
			if diff := cmp.Diff(k.says, describe(t, r)); diff != "" {
				t.Errorf("it says otherwise (-kept +now):\n%s", diff)
			}
			if strings.Contains(k.says, "\ndamage") {
				return
			}
			before := len(r.Snapshots())
			added, _ := backup(t, r, []byte("a chunk of a file"), noise(77, 5000))
			r = reopen(t, k.bucket, t.TempDir())
			mustBeClean(t, r)
			if len(r.Snapshots()) != before+1 {
				t.Errorf("%d snapshots after a backup, %d before", len(r.Snapshots()), before)
			}
			mustForget(t, r, added.ID)
			prune(t, r, atOnce)
			prune(t, r, atOnce)
			if diff := cmp.Diff(k.says, describe(t, reopen(t, k.bucket, ""))); diff != "" {
				t.Errorf("pruned, it says otherwise (-kept +now):\n%s", diff)
			}
		})
	}
}

// describe is what NAME.txt says of a repository.
func describe(t *testing.T, r *Repository) string {
	t.Helper()
	var out strings.Builder
	for _, l := range r.Snapshots() {
		fmt.Fprintf(&out, "snapshot %v\n", l.ID)
		for _, line := range beneath(r, blob.Ref{Class: blob.Manifest, ID: l.Manifest}) {
			fmt.Fprintf(&out, "blob %s\n", line)
		}
	}
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range report.Findings {
		found = append(found, f.Object)
	}
	slices.Sort(found)
	for _, object := range slices.Compact(found) {
		fmt.Fprintf(&out, "damage %s\n", object)
	}
	return out.String()
}

// beneath names a blob and all beneath it with the hash of what it holds.
func beneath(r *Repository, ref blob.Ref) (lines []string) {
	ctx := context.Background()
	n, err := blob.Node{}, error(nil)
	if ref.Class.HasLinks() {
		n, err = r.ReadNode(ctx, ref)
	} else {
		n.Body, err = r.Read(ctx, ref)
	}
	if errors.Is(err, ErrDamaged) {
		return []string{fmt.Sprintf("%v damaged", ref)}
	}
	if err != nil {
		return []string{fmt.Sprintf("%v %v", ref, err)}
	}
	lines = append(lines, fmt.Sprintf("%v %v", ref, seal.HashOf(n.Body)))
	for _, l := range n.Links {
		lines = append(lines, beneath(r, l)...)
	}
	return lines
}

func openKept(t testing.TB, name string) kept {
	t.Helper()
	path := filepath.Join("testdata/repositories", name)
	says, err := os.ReadFile(path + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	archive, err := os.ReadFile(path + ".tar")
	if err != nil {
		t.Fatal(err)
	}
	k := kept{bucket: mem.New(), says: string(says)}
	for in := tar.NewReader(bytes.NewReader(archive)); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return k
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.bucket.Create(t.Context(), header.Name, data); err != nil {
			t.Fatal(err)
		}
	}
}

func keep(t *testing.T, name string, s *specimen) {
	t.Helper()
	var archive bytes.Buffer
	out := tar.NewWriter(&archive)
	for _, object := range slices.Sorted(maps.Keys(names(t, s.bucket))) {
		data, err := s.bucket.Get(t.Context(), object, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.WriteHeader(&tar.Header{Name: object, Mode: 0o644, Size: int64(len(data)), Format: tar.FormatPAX}); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	r := reopen(t, s.bucket, "")
	if _, err := s.look(r); err != nil || len(r.Snapshots()) != len(s.live) {
		t.Fatalf("%s is not worth keeping: %d snapshots, want %d, %v", name, len(r.Snapshots()), len(s.live), err)
	}
	path := filepath.Join("testdata/repositories", name)
	for file, data := range map[string][]byte{path + ".tar": archive.Bytes(), path + ".txt": []byte(describe(t, r))} {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The object of an index segment is sealed as it was when the format was written down; what it seals, package
// index holds on to.
func TestSegmentObjectStays(t *testing.T) {
	v := new(formattest.Vectors)
	v.Add("object", sealSegment(seal.Derive(seal.Master{1}, seal.RepositoryID{2}), []byte("a segment")))
	v.Stay(t, "testdata/v0-segment.txt", *update)
}
