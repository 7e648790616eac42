package repo

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/varve-dev/varve/index"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// smallLimits lead a few kilobytes through packs, segments and checkpoints.
var smallLimits = Limits{Pack: 4 << 10, Inline: 1 << 10, Loose: 8}

// openSmall opens a repository as a client whose objects are small.
func openSmall(t testing.TB, b *mem.Bucket) *Repository {
	t.Helper()
	r, err := Open(context.Background(), b, OpenOptions{Password: password, Limits: smallLimits})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// meddler is a bucket in front of which another client acts once, just before the first request that
// begins as said.
func meddler(b *mem.Bucket, kind mem.Kind, prefix string, act func()) (view *mem.Bucket, acted func() bool) {
	done := false
	return b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if !done && op.Kind == kind && strings.HasPrefix(op.Name, prefix) {
			done = true
			act()
		}
		return mem.Fault{}
	}), func() bool { return done }
}

// mergeSegments plays the prune that puts one segment in the place of all, and deletes these at once.
func mergeSegments(t testing.TB, b *mem.Bucket) {
	t.Helper()
	ctx := context.Background()
	r := openSmall(t, b)
	var old []journal.SegmentInfo
	var next uint64
	packs := journal.NewPacks()
	r.journal.View(func(s *journal.State) { old, next = slices.Clone(s.Segments), s.Next })
	var tables []index.Table
	for _, g := range old {
		segment, err := r.segment(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		tables = append(tables, segment.Tables()...)
		packs.Or(g.Packs)
	}
	plain, err := index.EncodeSegment(tables)
	if err != nil {
		t.Fatal(err)
	}
	sealed := sealSegment(r.keys, plain)
	added := journal.SegmentAdded{Name: seal.HashOf(sealed), Size: int64(len(sealed)), Packs: packs}
	prune := &journal.Prune{ID: journal.NewTxID(), Base: next}
	for _, g := range old {
		prune.Segments = append(prune.Segments, g.Name)
	}
	if err := b.Create(ctx, journal.SegmentName(added.Name), sealed); err != nil {
		t.Fatal(err)
	}
	appendEntry(t, r, journal.Entry{Prune: prune, Segments: []journal.SegmentAdded{added}})
	for _, g := range old {
		if err := b.Delete(ctx, journal.SegmentName(g.Name)); err != nil {
			t.Fatal(err)
		}
	}
}

// fill makes some snapshots, each of which brings packs and a segment.
func fill(t testing.TB, b *mem.Bucket) (all []blob.Ref) {
	t.Helper()
	r := openSmall(t, b)
	for i := range uint64(4) {
		var contents [][]byte
		for j := range uint64(10) {
			contents = append(contents, noise(100*i+j, 700))
		}
		_, refs := backup(t, r, contents...)
		all = append(all, refs...)
	}
	if r.Info().Segments < 2 {
		t.Fatalf("the repository has %d segments", r.Info().Segments)
	}
	return all
}

func TestSegmentThatIsReplacedWhileItIsReadIsNoDamage(t *testing.T) {
	ctx := t.Context()
	for _, when := range []string{"at open", "at sync"} {
		b := mem.New()
		initialise(t, b)
		view, acted := meddler(b, mem.Get, journal.SegmentFolder, func() { mergeSegments(t, b) })
		r := reopen(t, view, "")
		refs := fill(t, b)
		var err error
		if when == "at sync" {
			err = r.Sync(ctx)
		} else {
			r, err = Open(ctx, view, OpenOptions{Password: password})
		}
		if err != nil || !acted() {
			t.Fatalf("%s: the segment was replaced meanwhile (%t): %v", when, acted(), err)
		}
		for _, ref := range refs {
			if _, err := r.Read(ctx, ref); err != nil {
				t.Fatalf("%s: %v", when, err)
			}
		}
	}
}
