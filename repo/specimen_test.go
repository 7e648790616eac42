package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// specimen is a small repository with objects of every kind, for tests that spoil it and look at what
// becomes of its snapshots.
type specimen struct {
	bucket *mem.Bucket
	owner  *age.X25519Identity
	repo   *Repository
	live   map[journal.SnapshotID][]written // what each live snapshot reaches
	gone   map[journal.SnapshotID][]written // and each that was forgotten
}

// written is a blob as it was written.
type written struct {
	ref blob.Ref
	blob.Node
}

// share is the contents of one snapshot, and the limits of the client that makes it.
type share struct {
	contents [][]byte
	secret   []byte
	inherits []journal.SnapshotID
	limits   Limits
}

// Clients of whom the first makes every pack an object of its own, the second gathers all tables in a
// segment as well, and the third writes a checkpoint.
var (
	apart       = Limits{Inline: 1, Pack: 16 << 10}
	gathers     = Limits{Inline: 1, Loose: 1}
	checkpoints = Limits{Checkpoint: 1}
)

// newSpecimen makes a repository whose contents depend on the seed, and its journal has every operation:
// packs inline and apart, a blob in two packs, two segments and loose tables, two checkpoints that
// are vouched for, snapshots held, forgotten and brought back, packs retired, revived and dropped,
// three key slots.
func newSpecimen(t testing.TB, seed uint64) *specimen {
	t.Helper()
	s := &specimen{bucket: mem.New(), live: map[journal.SnapshotID][]written{}, gone: map[journal.SnapshotID][]written{}}
	s.init(t)
	seed *= 1000
	text := bytes.Repeat([]byte("layer upon layer "), 40)
	first := s.snapshot(t, share{contents: [][]byte{{}, []byte("x"), text, noise(seed+1, 300)}})
	large := s.snapshot(t, share{contents: [][]byte{noise(seed+2, 20_000), noise(seed+3, 9_000), noise(seed+4, 70)}, limits: apart})
	s.twins(t, noise(seed+5, 500))
	old := s.snapshot(t, share{contents: [][]byte{noise(seed+6, 900)}, limits: apart})
	s.forget(t, old)
	s.prune(t, PruneOptions{}) // its packs are retired
	s.prune(t, PruneOptions{}) // and dropped
	s.snapshot(t, share{contents: [][]byte{noise(seed+7, 50)}, limits: gathers})
	s.hold(t, first)
	s.snapshot(t, share{contents: [][]byte{noise(seed+2, 20_000), []byte("y")}, secret: []byte("hunter2"), limits: apart})
	s.snapshot(t, share{contents: [][]byte{[]byte("v")}, limits: checkpoints})
	half := s.snapshot(t, share{contents: [][]byte{noise(seed+8, 2_000), noise(seed+9, 1_000)}, limits: apart})
	s.snapshot(t, share{contents: [][]byte{noise(seed+9, 1_000)}})
	given := s.snapshot(t, share{contents: [][]byte{noise(seed+10, 900)}, limits: apart})
	back := s.snapshot(t, share{contents: [][]byte{noise(seed+11, 800)}, limits: apart})
	at := s.snapshot(t, share{contents: [][]byte{noise(seed+12, 100)}})
	s.snapshot(t, share{contents: [][]byte{[]byte("builds on others")}, inherits: []journal.SnapshotID{first, large}, limits: gathers})
	s.forget(t, half, given, back, at)
	s.unforget(t, at)                          // before any prune has marked without it
	s.prune(t, PruneOptions{Grace: time.Hour}) // packs are retired and stay, one is copied in part
	s.unforget(t, back)                        // whose packs are revived
	s.snapshot(t, share{contents: [][]byte{[]byte("w")}, limits: checkpoints})
	s.release(t, first)
	s.snapshot(t, share{contents: [][]byte{text, []byte("z"), noise(seed+13, 200)}, secret: []byte("hunter3")})
	return s
}

// init makes the empty repository with three key slots.
func (s *specimen) init(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	var err error
	if s.owner, err = age.GenerateX25519Identity(); err != nil {
		t.Fatal(err)
	}
	if _, err := Init(ctx, s.bucket, InitOptions{Recipient: s.owner.Recipient()}); err != nil {
		t.Fatal(err)
	}
	if s.repo, err = s.open(s.bucket); err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	withPassword, err := seal.PasswordRecipient(password, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []age.Recipient{other.Recipient(), withPassword} {
		if _, err := s.repo.AddSlot(ctx, SlotOptions{Recipient: to}); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *specimen) options() OpenOptions { return OpenOptions{Identities: []age.Identity{s.owner}} }

func (s *specimen) open(b storage.Bucket) (*Repository, error) {
	return Open(context.Background(), b, s.options())
}

// snapshot commits one snapshot of a share.
func (s *specimen) snapshot(t testing.TB, what share) journal.SnapshotID {
	t.Helper()
	id, all, err := s.write(what, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.live[id] = all
	return id
}

// write backs up a share; before its commit it calls between, if there is one.
func (s *specimen) write(what share, between func()) (id journal.SnapshotID, all []written, err error) {
	ctx := context.Background()
	id = journal.NewSnapshotID()
	options := s.options()
	options.Limits = what.limits
	r, err := Open(ctx, s.bucket, options)
	if err != nil {
		return id, nil, err
	}
	w := r.NewWriter(ctx, WriterOptions{})
	defer func() { err = errors.Join(err, w.Close()) }()
	put := func(class blob.Class, n blob.Node) (ref blob.Ref) {
		if err != nil {
			return ref
		}
		if class.HasLinks() {
			ref, err = w.WriteNode(ctx, class, n)
		} else {
			ref, err = w.Write(ctx, class, n.Body)
		}
		all = append(all, written{ref, n})
		return ref
	}
	tree, manifest := blob.Node{Body: []byte("a map")}, blob.Node{Body: id[:]}
	for _, content := range what.contents {
		tree.Links = append(tree.Links, put(blob.Data, blob.Node{Body: content}))
	}
	if what.secret != nil {
		manifest.Links = append(manifest.Links, put(blob.Secrets, blob.Node{Body: what.secret}))
	}
	manifest.Links = append(manifest.Links, put(blob.Tree, tree))
	root := put(blob.Manifest, manifest)
	if err != nil {
		return id, all, err
	}
	if between != nil {
		between()
	}
	_, err = w.Commit(ctx, Commit{ID: id, Manifest: root, UID: id.String(), Inherits: what.inherits})
	return id, all, err
}

// twins are two backups of the same content at the same time, neither of which knows of the other's copy.
func (s *specimen) twins(t testing.TB, content []byte) {
	t.Helper()
	what := share{contents: [][]byte{content}, limits: apart}
	id, all, err := s.write(what, func() { s.snapshot(t, what) })
	if err != nil {
		t.Fatal(err)
	}
	s.live[id] = all
}

func (s *specimen) forget(t testing.TB, ids ...journal.SnapshotID) {
	t.Helper()
	mustForget(t, s.repo, ids...)
	for _, id := range ids {
		s.gone[id] = s.live[id]
		delete(s.live, id)
	}
}

func (s *specimen) unforget(t testing.TB, id journal.SnapshotID) {
	t.Helper()
	if err := s.repo.Unforget(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.live[id] = s.gone[id]
}

func (s *specimen) hold(t testing.TB, id journal.SnapshotID) {
	t.Helper()
	if err := s.repo.Hold(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func (s *specimen) release(t testing.TB, id journal.SnapshotID) {
	t.Helper()
	if err := s.repo.Release(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func (s *specimen) prune(t testing.TB, o PruneOptions) {
	t.Helper()
	o.MaxDrop = 1
	prune(t, s.repo, o)
}

// look reads all that a repository's live snapshots reach. It returns those of which something cannot
// be read, and an error if anything reads otherwise than it was written.
func (s *specimen) look(r *Repository) (unreadable []journal.SnapshotID, err error) {
	ctx := context.Background()
	for _, l := range r.Snapshots() {
		all, ok := s.live[l.ID]
		if !ok {
			return nil, fmt.Errorf("snapshot %v is live and should not be", l.ID)
		}
		whole := true
		for _, w := range all {
			n := blob.Node{}
			var failed error
			if w.ref.Class.HasLinks() {
				n, failed = r.ReadNode(ctx, w.ref)
			} else {
				n.Body, failed = r.Read(ctx, w.ref)
			}
			if failed != nil {
				whole = false
			} else if !bytes.Equal(n.Body, w.Body) || fmt.Sprint(n.Links) != fmt.Sprint(w.Links) {
				return nil, fmt.Errorf("%v reads as other bytes", w.ref)
			}
		}
		if !whole {
			unreadable = append(unreadable, l.ID)
		}
	}
	return unreadable, nil
}

// everyKind returns the bucket of a large repository with at least one object of every kind, the contents of
// its snapshots and the names they were written under.
func everyKind(t *testing.T) (*mem.Bucket, map[blob.Ref][]byte) {
	t.Helper()
	b := mem.New()
	initialise(t, b)
	r := reopen(t, b, "")
	want := map[blob.Ref][]byte{}
	note := func(contents ...[]byte) {
		_, refs := backup(t, r, contents...)
		for i, ref := range refs {
			want[ref] = contents[i]
		}
	}
	note(noise(1, 600_000), noise(2, 600_000)) // a pack of its own
	var small [][]byte
	for i := range uint64(maxLoose) { // a segment
		small = append(small, noise(1000+i, 20))
	}
	note(small...)
	note([]byte("an inline pack"))
	return b, want
}

func TestSpecimenHasEveryKind(t *testing.T) {
	s := newSpecimen(t, 1)
	r, err := s.open(s.bucket)
	if err != nil {
		t.Fatal(err)
	}
	mustBeClean(t, r)
	unreadable, err := s.look(r)
	if err != nil || len(unreadable) > 0 || len(r.Snapshots()) != len(s.live) {
		t.Errorf("%d of %d snapshots, %v do not read, %v", len(r.Snapshots()), len(s.live), unreadable, err)
	}
	status, inline := map[journal.Status]int{}, map[bool]int{}
	r.journal.View(func(state *journal.State) {
		for _, p := range state.Packs {
			status[p.Status]++
			inline[p.Inline > 0]++
		}
		if len(state.Segments) < 2 || len(state.Forgotten) == 0 || state.Checkpoint.Next == 0 {
			t.Errorf("%d segments, %d forgotten, checkpoint %d", len(state.Segments), len(state.Forgotten), state.Checkpoint.Next)
		}
	})
	t.Logf("packs by status %v, inline %v, %d objects", status, inline, len(names(t, s.bucket)))
	if len(status) != 3 || len(inline) != 2 {
		t.Errorf("packs by status %v, by inline %v: not of every kind", status, inline)
	}
}
