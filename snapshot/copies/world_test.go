package copies

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/meter"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// place is a repository with what a test needs around it.
type place struct {
	*repo.Repository
	bucket *mem.Bucket
	meter  *meter.Bucket
}

func newPlace(t testing.TB) place {
	t.Helper()
	b := mem.New()
	const password = "correct horse battery staple"
	if _, err := repo.Init(t.Context(), b, repo.InitOptions{Password: password, PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
	return reopen(t, b, b)
}

// reopen opens the repository in a bucket through a view of it.
func reopen(t testing.TB, b *mem.Bucket, view storage.Bucket) place {
	t.Helper()
	m := meter.New(view)
	r, err := repo.Open(t.Context(), m, repo.OpenOptions{Password: "correct horse battery staple"})
	if err != nil {
		t.Fatal(err)
	}
	return place{r, b, m}
}

// world is what a test backs up: objects by group/resource/namespace/name, and volumes of files by path.
type world struct {
	objects map[string]object
	volumes map[string]map[string][]byte
}

type object struct {
	version     string
	body, state []byte
}

// noise returns n bytes that do not compress, the same for the same seed.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	out := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(out) // never fails
	return out
}

// newWorld has contents of every kind of place: none, inline, bundled, chunks, and a map of chunks.
func newWorld() world {
	w := world{objects: map[string]object{}, volumes: map[string]map[string][]byte{"data": {}, "still": {"only": []byte("never changes")}}}
	for i := range 300 {
		key := fmt.Sprintf("apps/deployments/ns-%d/web-%d", i%3, i)
		w.objects[key] = object{"1", fmt.Appendf(nil, "body of %d %x", i, noise(uint64(i), 200)), fmt.Appendf(nil, "state of %d %x", i, noise(uint64(i), 99))}
	}
	w.objects["/secrets/ns-0/small"] = object{"1", []byte("hidden"), nil}
	w.objects["/secrets/ns-0/large"] = object{"1", noise(1, 3<<19), noise(2, 200)}
	w.objects["/namespaces//ns-0"] = object{"1", []byte("short"), nil}
	files := w.volumes["data"]
	for i := range 200 {
		files[fmt.Sprintf("small/%d", i)] = noise(uint64(1000+i), 50*i)
	}
	files["empty"], files["chunks"], files["large"] = nil, noise(3, 300<<10), noise(4, 3<<20)
	return w
}

// change is a world in which about one in so many things is another, and a few came and went.
func (w world) change(seed uint64, share int) world {
	rng := rand.New(rand.NewPCG(seed, 8))
	next := world{maps.Clone(w.objects), map[string]map[string][]byte{}}
	for _, key := range slices.Sorted(maps.Keys(w.objects)) {
		if o := next.objects[key]; rng.IntN(share) == 0 {
			o.version = fmt.Sprint(seed)
			o.state = fmt.Appendf(nil, "changed %d", rng.Uint64())
			next.objects[key] = o
		}
	}
	for name, files := range w.volumes {
		next.volumes[name] = maps.Clone(files)
	}
	files := next.volumes["data"]
	for _, key := range slices.Sorted(maps.Keys(files)) {
		if rng.IntN(share) == 0 {
			files[key] = append(slices.Clone(files[key]), "more"...)
		}
	}
	delete(files, fmt.Sprintf("small/%d", rng.IntN(200)))
	delete(next.objects, fmt.Sprintf("apps/deployments/ns-0/web-%d", 3*rng.IntN(100)))
	files[fmt.Sprintf("new/%d", seed)] = noise(seed, 5000)
	return next
}

// backup makes a snapshot of a world as a backup would: beside a parent, of which before was the world.
func backup(t testing.TB, r *repo.Repository, d snapshot.Draft, now world, parent *snapshot.Snapshot, before world) *snapshot.Snapshot {
	t.Helper()
	ctx := t.Context()
	w := r.NewWriter(ctx, repo.WriterOptions{})
	d.TreeKey, d.Digests, d.Complete = r.DeriveKey("tree"), &snapshot.Digests{}, true
	var giveUp []blob.Ref
	last := world{}
	if parent != nil {
		d.Inherits, last = []snapshot.ID{parent.ID}, before
		giveUp = must[[]blob.Ref](t)(parent.SparseObjects(ctx))
	}
	lookup := func(m func() *tree.Map, key string) []content.Ref {
		e, ok, err := m().Get(ctx, []byte(key))
		if err != nil || !ok {
			t.Fatal(key, err)
		}
		_, refs, err := content.DecodeEntry(e)
		if err != nil {
			t.Fatal(err)
		}
		return refs
	}
	assemble := func(giveUp []blob.Ref, add func(*content.Assembler) error) content.Result {
		asm := content.NewAssembler(w, content.Options{Key: r.DeriveKey, Chunks: r.Chunker(), GiveUp: giveUp, Loader: r})
		if err := add(asm); err != nil {
			t.Fatal(err)
		}
		return must[content.Result](t)(asm.Finish(ctx))
	}
	hasher := snapshot.NewHasher(r.DeriveKey("digest"))
	objects := assemble(giveUp, func(asm *content.Assembler) error {
		for _, name := range sorted(now.objects) {
			o, key := now.objects[name], zeros(name)
			d.Digests.Add(key[:strings.LastIndexByte(key, 0)+1], hasher.Object([]byte(key), o.body, o.state))
			old, known := last.objects[name]
			class := blob.Data
			if strings.HasPrefix(name, "/secrets/") {
				class = blob.Secrets
			}
			pieces := []content.Piece{{Stream: "body", Class: class, Data: full(o.body)}, {Stream: "state", Class: class, Data: full(o.state)}}
			if known && bytes.Equal(old.body, o.body) {
				pieces[0].Data, pieces[0].Kept = nil, &lookup(parent.Objects, key)[0]
			}
			if known && bytes.Equal(old.state, o.state) {
				pieces[1].Data, pieces[1].Kept = nil, &lookup(parent.Objects, key)[1]
			}
			if err := asm.Add(ctx, content.Item{Key: []byte(key), Attrs: []byte(o.version), Bytes: uint64(len(o.body) + len(o.state)), Contents: pieces}); err != nil {
				return err
			}
		}
		return nil
	})
	d.Objects = snapshot.Contents{Root: objects.Root, Sparse: objects.Sparse}
	for _, name := range slices.Sorted(maps.Keys(now.volumes)) {
		made := assemble(nil, func(asm *content.Assembler) error {
			for _, path := range sorted(now.volumes[name]) {
				data, key := now.volumes[name][path], zeros(path)
				piece := content.Piece{Stream: "file", Class: blob.Data, Data: full(data)}
				if old, known := last.volumes[name][path]; known && bytes.Equal(old, data) {
					v := must[snapshot.Volume](t)(parent.Volume(ctx, name))
					piece.Data, piece.Kept = nil, &lookup(func() *tree.Map { return parent.Files(v) }, key)[0]
				}
				if err := asm.Add(ctx, content.Item{Key: []byte(key), Attrs: fmt.Append(nil, len(data)), Bytes: uint64(len(data)), Contents: []content.Piece{piece}}); err != nil {
					return err
				}
			}
			return nil
		})
		d.Volumes = append(d.Volumes, snapshot.VolumeDraft{Volume: snapshot.Volume{Name: name, Claim: "claim of " + name, Root: made.Root}, Sparse: made.Sparse})
	}
	committed, err := snapshot.Commit(ctx, w, d)
	if err != nil {
		t.Fatal(err)
	}
	return must[*snapshot.Snapshot](t)(snapshot.Find(ctx, r, committed.ID.String()))
}

// history makes snapshots of a world as it changes.
func history(t testing.TB, r *repo.Repository, length int) (all []*snapshot.Snapshot, last world) {
	t.Helper()
	for i := range length {
		before := last
		if last = newWorld(); i > 0 {
			last = before.change(uint64(i), 50)
		}
		var parent *snapshot.Snapshot
		if i > 0 {
			parent = all[i-1]
		}
		all = append(all, backup(t, r, draft(i), last, parent, before))
	}
	return all, last
}

func draft(i int) snapshot.Draft {
	at := start.Add(time.Duration(i) * time.Hour)
	return snapshot.Draft{Name: fmt.Sprintf("nightly-%d", i), Schedule: "nightly", Cluster: "prod", Started: at, Completed: at.Add(time.Minute),
		Expires: at.Add(24 * time.Hour), Plan: noise(9, 3000), Discovery: []byte("{}"), UID: fmt.Sprintf("uid-%d", i),
		Results: []snapshot.Result{{Severity: snapshot.Warning, Item: "x", Message: "y"}}, Unlisted: snapshot.Unlisted{Warnings: 5}}
}

// told is all that a snapshot says, in words: attributes and contents of every entry.
func told(t testing.TB, r place, id snapshot.ID) map[string]string {
	t.Helper()
	ctx := t.Context()
	s := must[*snapshot.Snapshot](t)(snapshot.Find(ctx, r, id.String()))
	out := map[string]string{}
	reader := content.NewReader(r)
	read := func(where string, m *tree.Map) {
		for e, err := range m.Scan(ctx, tree.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			attrs, refs, err := content.DecodeEntry(e)
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprintf("%s %d %d", attrs, e.Bytes, len(refs))
			for _, ref := range refs {
				var b bytes.Buffer
				if err := reader.WriteTo(ctx, ref, &b); err != nil {
					t.Fatal(err)
				}
				text += fmt.Sprintf(" %d:%x", b.Len(), blobSum(b.Bytes()))
			}
			out[where+string(e.Key)] = text + " " + classes(t, r, e.Refs)
		}
	}
	read("objects", s.Objects())
	for _, v := range must[[]snapshot.Volume](t)(s.Volumes(ctx)) {
		read("volumes/"+v.Name+"/"+v.Claim, s.Files(v))
	}
	out["plan"] = fmt.Sprintf("%x", must[[]byte](t)(s.Plan(ctx)))
	out["discovery"] = string(must[[]byte](t)(s.Discovery(ctx)))
	out["results"] = fmt.Sprint(must[[]snapshot.Result](t)(s.Results(ctx)), s.Errors, s.Warnings)
	out["manifest"] = fmt.Sprint(s.ID, s.Name, s.Schedule, s.Cluster, s.Started, s.Completed, s.Expires, s.Complete, s.Digest.Objects, s.Stats.Items)
	for l := range slices.Values(r.Snapshots()) {
		if l.ID == id {
			out["journal"] = fmt.Sprint(l.UID, l.Time)
		}
	}
	return out
}

// classes tells in which classes of blobs contents lie, also those in maps of chunks.
func classes(t testing.TB, r place, refs []blob.Ref) string {
	t.Helper()
	found := map[string]bool{}
	for _, ref := range refs {
		if ref.Class != blob.Tree {
			found[ref.Class.String()] = true
			continue
		}
		found[classes(t, r, must[blob.Node](t)(r.ReadNode(t.Context(), ref)).Links)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), " ")
}

func mustBeCopies(t testing.TB, from, to place, ids ...snapshot.ID) {
	t.Helper()
	for _, id := range ids {
		if diff := cmp.Diff(told(t, from, id), told(t, to, id)); diff != "" {
			t.Errorf("the copy of snapshot %v is another: %s", id, diff)
		}
	}
}

func mustBeWhole(t testing.TB, r place) {
	t.Helper()
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true})
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("check: %v, %+v", err, report.Findings)
	}
}

func zeros(path string) string { return strings.ReplaceAll(path, "/", "\x00") }

func sorted[V any](m map[string]V) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return strings.Compare(zeros(a), zeros(b)) })
}

// full makes an empty content one that is set.
func full(data []byte) []byte { return append([]byte{}, data...) }

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
