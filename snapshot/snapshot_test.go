package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/snapshot/tree"
)

var (
	_ Repository = (*repo.Repository)(nil)
	_ Writer     = (*repo.Writer)(nil)
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newRepository(t testing.TB) *repo.Repository {
	t.Helper()
	b := mem.New()
	const password = "correct horse battery staple"
	if _, err := repo.Init(t.Context(), b, repo.InitOptions{Password: password, PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), b, repo.OpenOptions{Password: password})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// run is what a test backs up: entries by key, with the words of keys parted by slashes.
type run struct {
	draft   Draft
	objects map[string]string
	files   map[string]map[string]string // by volume
}

// backup commits a run and opens the snapshot.
func backup(t testing.TB, r *repo.Repository, in run) *Snapshot {
	t.Helper()
	s, _, err := tryBackup(t, r, in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryBackup(t testing.TB, r *repo.Repository, in run) (*Snapshot, repo.WriterStats, error) {
	t.Helper()
	ctx := t.Context()
	w := r.NewWriter(ctx, repo.WriterOptions{})
	defer w.Close()
	d := in.draft
	d.TreeKey = r.DeriveKey("tree")
	if d.Started.IsZero() {
		d.Started = start
	}
	if d.Name == "" {
		d.Name = "test"
	}
	d.Objects.Root = buildMap(t, w, d.TreeKey, in.objects)
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		at := slices.IndexFunc(d.Volumes, func(v VolumeDraft) bool { return v.Name == name })
		if at < 0 {
			at = len(d.Volumes)
			d.Volumes = append(d.Volumes, VolumeDraft{Volume: Volume{Name: name}})
		}
		d.Volumes[at].Root = buildMap(t, w, d.TreeKey, in.files[name])
	}
	committed, err := Commit(ctx, w, d)
	if err != nil {
		return nil, w.Stats(), err
	}
	s, err := Find(ctx, r, committed.ID.String())
	return s, w.Stats(), err
}

func buildMap(t testing.TB, w *repo.Writer, key [32]byte, entries map[string]string) tree.Root {
	t.Helper()
	b := tree.NewBuilder(w, key)
	for _, k := range slices.SortedFunc(maps.Keys(entries), func(a, b string) int { return strings.Compare(zeros(a), zeros(b)) }) {
		e := tree.Entry{Key: []byte(zeros(k)), Value: []byte(entries[k]), Bytes: uint64(len(entries[k]))}
		if err := b.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func zeros(path string) string { return strings.ReplaceAll(path, "/", "\x00") }

func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rng.Uint32())
	}
	return out
}

func refs(n int) (out []blob.Ref) {
	for i := range n {
		out = append(out, blob.Ref{Class: blob.Data, ID: blob.ID{byte(i), byte(i >> 8)}})
	}
	return out
}

// ok returns what a call returns, and fails the test on its error.
func ok[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// large is a run in which every bulky part is bulky.
func large() run {
	h := NewHasher([32]byte{9})
	d := &Digests{}
	for i := range 2000 {
		scope := fmt.Sprintf("group-%d\x00resource\x00ns-%d", i%40, i/40)
		d.Add(scope, h.Object([]byte(scope+"\x00name"), noise(i+1), nil))
	}
	in := run{
		draft: Draft{
			Name: "nightly-1", Schedule: "prod/nightly", Cluster: "2f6c1f0e", Complete: false,
			Started: start, Completed: start.Add(time.Minute), Expires: start.Add(24 * time.Hour),
			Plan: noise(5000), Discovery: noise(100_000), Digests: d,
			Objects: Contents{Sparse: refs(200)},
			Results: []Result{
				{Severity: Error, Item: "objects/apps/deployments/shop/web", Message: "gone"},
				{Severity: Warning, Item: "volumes/data/x", Message: "changed while it was read"},
			},
			Stats: Stats{Items: 7, Bytes: 100, ReadBytes: 50, Requests: 3},
		},
		objects: map[string]string{"apps/deployments/shop/web": "1", "/pods/shop/web-1": "2"},
		files:   map[string]map[string]string{},
	}
	for i := range 100 {
		name := fmt.Sprintf("volume-%d", i)
		in.draft.Volumes = append(in.draft.Volumes, VolumeDraft{
			Volume: Volume{Name: name, Namespace: "shop", Claim: "data", Class: "fast", Capacity: "10Gi", Mode: "Filesystem"},
			Sparse: refs(i),
		})
		in.files[name] = map[string]string{"a": "file", "b/c": fmt.Sprint(i)}
	}
	return in
}

func TestSnapshotComesBackAsItWasCommitted(t *testing.T) {
	r := newRepository(t)
	in := large()
	s, ctx := backup(t, r, in), t.Context()
	d := in.draft

	want := Manifest{
		Name: d.Name, Schedule: d.Schedule, Cluster: d.Cluster, Started: d.Started, Completed: d.Completed, Expires: d.Expires,
		Digest: d.Digests.Whole(), Errors: 1, Warnings: 1, Stats: d.Stats,
	}
	ignore := cmpopts.IgnoreFields(Manifest{}, "ID", "Objects", "Volumes", "DigestTable", "Plan", "Discovery", "Results", "Sparse",
		"Stats.NewBlobs", "Stats.NewBytes", "Stats.StoredBytes")
	if diff := cmp.Diff(want, s.Manifest, ignore); diff != "" {
		t.Error(diff)
	}
	if s.Stats.NewBytes < 100_000 || s.Stats.NewBlobs < 100 {
		t.Errorf("stats say that %d blobs of %d bytes are new", s.Stats.NewBlobs, s.Stats.NewBytes)
	}
	if got := ok[[]byte](t)(s.Plan(ctx)); !bytes.Equal(got, d.Plan) {
		t.Error("the plan is another one")
	}
	if got := ok[[]byte](t)(s.Discovery(ctx)); !bytes.Equal(got, d.Discovery) {
		t.Error("the discovery data are others")
	}
	if diff := cmp.Diff(d.Results, ok[[]Result](t)(s.Results(ctx))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(d.Objects.Sparse, ok[[]blob.Ref](t)(s.SparseObjects(ctx))); diff != "" {
		t.Error(diff)
	}
	if got := ok[*Digests](t)(s.Digests(ctx)); !sameDigests(got, d.Digests) {
		t.Error("the digests are others")
	}
	volumes := ok[[]Volume](t)(s.Volumes(ctx))
	if len(volumes) != 100 || s.Manifest.Volumes.Count != 100 {
		t.Fatalf("%d volumes", len(volumes))
	}
	for _, v := range volumes {
		one := ok[Volume](t)(s.Volume(ctx, v.Name))
		sent := d.Volumes[slices.IndexFunc(d.Volumes, func(o VolumeDraft) bool { return o.Name == v.Name })]
		if diff := cmp.Diff(sent.Volume, one, cmpopts.IgnoreFields(Volume{}, "Root", "sparse")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(sent.Sparse, ok[[]blob.Ref](t)(s.SparseFiles(ctx, v))); diff != "" {
			t.Error(diff)
		}
		e, found, err := s.Files(v).Get(ctx, []byte("b\x00c"))
		if err != nil || !found || "volume-"+string(e.Value) != v.Name {
			t.Errorf("%s holds %q: %v, %v", v.Name, e.Value, found, err)
		}
	}
	if _, err := s.Volume(ctx, "other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a volume that is not there: %v", err)
	}
}

func TestEmptyDraftIsASnapshot(t *testing.T) {
	s, ctx := backup(t, newRepository(t), run{}), t.Context()
	for what, n := range map[string]int{
		"plan":      len(ok[[]byte](t)(s.Plan(ctx))),
		"discovery": len(ok[[]byte](t)(s.Discovery(ctx))),
		"results":   len(ok[[]Result](t)(s.Results(ctx))),
		"volumes":   len(ok[[]Volume](t)(s.Volumes(ctx))),
		"sparse":    len(ok[[]blob.Ref](t)(s.SparseObjects(ctx))),
		"digests":   int(ok[*Digests](t)(s.Digests(ctx)).Whole().Objects),
		"objects":   int(s.Objects().Root().Count),
	} {
		if n != 0 {
			t.Errorf("%d of %s", n, what)
		}
	}
	if !s.Expires.IsZero() || s.Completed.IsZero() {
		t.Errorf("expires %v, completed %v", s.Expires, s.Completed)
	}
}

func TestUnchangedBackupAddsOneSmallManifest(t *testing.T) {
	r := newRepository(t)
	in := large()
	first := backup(t, r, in)
	in.draft.Started = start.Add(time.Hour)
	in.draft.Inherits = []ID{first.ID}
	second, stats, err := tryBackup(t, r, in)
	if err != nil {
		t.Fatal(err)
	}
	if stats.NewBlobs != 1 || stats.Packs != 0 {
		t.Errorf("%d new blobs and %d packs, want the manifest alone", stats.NewBlobs, stats.Packs)
	}
	n, err := encodeManifest(second.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	if size := len(z.EncodeAll(n.Body, nil)) + 33*len(n.Links); size > 1<<10 {
		t.Errorf("the manifest takes %d bytes compressed, with its links", size)
	}
}

func TestMarkingFindsEverythingByLinks(t *testing.T) {
	r := newRepository(t)
	s, ctx := backup(t, r, large()), t.Context()
	live := r.Snapshots()[0]
	seen := map[blob.Ref]bool{}
	var mark func(ref blob.Ref)
	mark = func(ref blob.Ref) {
		if seen[ref] {
			return
		}
		seen[ref] = true
		if ref.Class.HasLinks() {
			for _, l := range ok[blob.Node](t)(r.ReadNode(ctx, ref)).Links {
				mark(l)
			}
		}
	}
	mark(blob.Ref{Class: blob.Manifest, ID: live.Manifest})
	want := []blob.Ref{s.Manifest.Objects.Ref, s.Manifest.Volumes.Ref, s.DigestTable.Ref,
		s.Manifest.Plan.Blob, s.Manifest.Discovery.Blob, s.Manifest.Sparse.Blob}
	for _, v := range ok[[]Volume](t)(s.Volumes(ctx)) {
		want = append(want, v.Root.Ref)
		if !v.sparse.Blob.IsZero() {
			want = append(want, v.sparse.Blob)
		}
	}
	for _, ref := range want {
		if ref.IsZero() || !seen[ref] {
			t.Errorf("%v is not reached", ref)
		}
	}
}

func TestOneBackupObjectMakesOneSnapshot(t *testing.T) {
	r := newRepository(t)
	first := backup(t, r, run{draft: Draft{UID: "u-1", Name: "one"}})
	again := backup(t, r, run{draft: Draft{UID: "u-1", Name: "two"}})
	if again.ID != first.ID || again.Name != "one" || len(r.Snapshots()) != 1 {
		t.Errorf("the second commit gives %s %q of %d snapshots", again.ID, again.Name, len(r.Snapshots()))
	}
}

func TestCommitRefuses(t *testing.T) {
	tests := []struct {
		name   string
		change func(d *Draft)
		want   string
	}{
		{"a name with a slash", func(d *Draft) { d.Name = "a/b" }, "is no name"},
		{"a long name", func(d *Draft) { d.Name = strings.Repeat("x", 254) }, "is no name"},
		{"a name that does not print", func(d *Draft) { d.Name = "a\nb" }, "is no name"},
		{"a name that is no text", func(d *Draft) { d.Name = "a\xff" }, "is no name"},
		{"the name of the newest", func(d *Draft) { d.Name = "latest" }, "is kept for"},
		{"the name of a schedule's newest", func(d *Draft) { d.Name = "latest:x" }, "is kept for"},
		{"a schedule that is no text", func(d *Draft) { d.Schedule = "\xff" }, "must be text"},
		{"a volume without name", func(d *Draft) { d.Volumes = make([]VolumeDraft, 1) }, "is no name"},
		{"a volume twice", func(d *Draft) {
			d.Volumes = []VolumeDraft{{Volume: Volume{Name: "v"}}, {Volume: Volume{Name: "v"}}}
		}, "two volumes"},
		{"a result without severity", func(d *Draft) { d.Results = []Result{{Item: "x"}} }, "no severity"},
		{"a huge part", func(d *Draft) { d.Discovery = make([]byte, maxPart+1) }, "at most"},
	}
	r := newRepository(t)
	for _, tc := range tests {
		in := run{}
		tc.change(&in.draft)
		if _, _, err := tryBackup(t, r, in); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	w := r.NewWriter(t.Context(), repo.WriterOptions{})
	defer w.Close()
	for want, d := range map[string]Draft{"started": {Name: "x", TreeKey: [32]byte{1}}, "key": {Name: "x", Started: start}} {
		if _, err := Commit(t.Context(), w, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if n := len(r.Snapshots()); n != 0 {
		t.Errorf("%d snapshots came of it", n)
	}
}

func TestManyLongResultsAreCountedAndCapped(t *testing.T) {
	in := run{}
	for i := range maxResults + 50 {
		in.draft.Results = append(in.draft.Results, Result{Severity: Error, Item: fmt.Sprint(i, "\xff", strings.Repeat("é", 1000)), Message: strings.Repeat("é", 1000)})
	}
	s := backup(t, newRepository(t), in)
	got := ok[[]Result](t)(s.Results(t.Context()))
	if s.Errors != maxResults+50 || len(got) != maxResults {
		t.Fatalf("%d errors counted, %d kept", s.Errors, len(got))
	}
	for _, r := range got {
		if len(r.Item) > maxText || !strings.Contains(r.Item, "\uFFFD") {
			t.Fatalf("item %q", r.Item)
		}
		if len(r.Message) > maxText || !strings.HasSuffix(r.Message, "é…") {
			t.Fatalf("message of %d bytes ends with %q", len(r.Message), r.Message[len(r.Message)-8:])
		}
	}
}

// broken is a repository of which some manifests cannot be read.
type broken struct {
	*repo.Repository
	manifests map[blob.ID]bool
}

func (b broken) ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	if b.manifests[ref.ID] {
		return blob.Node{}, repo.ErrDamaged
	}
	return b.Repository.ReadNode(ctx, ref)
}

func (b broken) lose(s *Snapshot) {
	for _, l := range b.Snapshots() {
		if l.ID == s.ID {
			b.manifests[l.Manifest] = true
		}
	}
}

// A journal entry that names the manifest of another snapshot must not pass for that snapshot.
func TestLoadRefusesTheManifestOfAnother(t *testing.T) {
	r := newRepository(t)
	backup(t, r, run{})
	live := r.Snapshots()[0]
	live.ID = journal.NewSnapshotID()
	if _, err := Load(t.Context(), r, live); !errors.Is(err, ErrMalformed) {
		t.Errorf("load gives %v, want %v", err, ErrMalformed)
	}
}
