package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/retry"
)

var ctx = context.Background()

func testKeys() *seal.Keys { return seal.Derive(seal.Master{1}, seal.RepositoryID{2}) }

func newJournal(b storage.Bucket) *Journal { return New(b, testKeys(), new(State)) }

// begun returns a journal with entry 0.
func begun(t testing.TB, b storage.Bucket) *Journal {
	t.Helper()
	j := newJournal(b)
	commit(t, j, Entry{Genesis: &Genesis{Header: blob.Hash{7}}})
	return j
}

func commit(t testing.TB, j *Journal, e Entry) Committed {
	t.Helper()
	c, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: e}, nil })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshot is an entry with one snapshot of the given number.
func snapshot(n byte) Entry { return Entry{Snapshots: []Snapshot{{ID: SnapshotID{n}}}} }

// encoded returns a state's bytes for comparison.
func encoded(t testing.TB, j *Journal) (data []byte) {
	t.Helper()
	j.View(func(s *State) {
		var err error
		if data, err = s.Encode(); err != nil {
			t.Fatal(err)
		}
	})
	return data
}

func TestEntriesAreFoldedInOrder(t *testing.T) {
	b := mem.New()
	j := begun(t, b)
	inline := []byte("the bytes of a small pack")
	c, err := j.Commit(ctx, func(*State) (Draft, error) {
		return Draft{Entry: Entry{
			Add:       []Added{{Name: seal.HashOf(inline), Size: int64(len(inline)), Rows: table, Inline: true}},
			Snapshots: []Snapshot{{ID: SnapshotID{1}, UID: "u"}},
		}, Inline: inline}, nil
	})
	if err != nil || c.Seq != 1 || c.Stored != int64(seal.Padded(int(c.Stored))) {
		t.Fatalf("committed %+v, %v; want entry 1 of a padded size", c, err)
	}
	reader := newJournal(b)
	if err := reader.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(encoded(t, reader), encoded(t, j)) {
		t.Error("reader and writer disagree about the state")
	}
	reader.View(func(s *State) {
		name, offset := s.Packs[0].Object()
		data, err := b.Get(ctx, name, offset, s.Packs[0].Size)
		if err != nil || !bytes.Equal(data, inline) {
			t.Errorf("inline pack reads as %q, %v", data, err)
		}
	})
}

func TestRacingWritersAllCommit(t *testing.T) {
	synctest.Test(t, racingWriters)
}

func racingWriters(t *testing.T) {
	b := mem.New()
	begun(t, b)
	const writers, each = 8, 6
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			j := newJournal(b)
			for i := range each {
				_, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: snapshot(byte(1 + w*each + i))}, nil })
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	wg.Wait()
	j := newJournal(b)
	if err := j.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	j.View(func(s *State) {
		if len(s.Snapshots) != writers*each || s.Next != writers*each+1 {
			t.Errorf("%d snapshots in %d entries, want %d", len(s.Snapshots), s.Next, writers*each)
		}
	})
}

// Commits go right under answers that are lost, effects that come late or twice, and refusals. Every
// acknowledged snapshot is there exactly once; nothing else is but those whose outcome is unknown.
func TestCommitIsCertainUnderFaults(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) { commitUnderFaults(t, seed) })
	}
}

func commitUnderFaults(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	store := mem.New()
	begun(t, store)
	view := store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind != mem.Create {
			return mem.Fault{}
		}
		switch rng.IntN(6) {
		case 0:
			return mem.Fault{Err: mem.ErrThrottled}
		case 1:
			return mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
		case 2:
			return mem.Fault{Late: true}
		case 3:
			return mem.Fault{Duplicate: true}
		}
		return mem.Fault{}
	})
	acknowledged := map[SnapshotID]bool{}
	a, other := newJournal(view), newJournal(store)
	for i := range byte(5) {
		e := snapshot(2*i + 1)
		if _, err := a.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: e}, nil }); err == nil {
			acknowledged[e.Snapshots[0].ID] = true
		}
		commit(t, other, snapshot(2*i+2))
		acknowledged[SnapshotID{2*i + 2}] = true
		for held := len(store.Held()); held > 0; held-- {
			_ = store.Release(rng.IntN(held)) // late, into a place that may be taken
		}
	}
	reader := newJournal(store)
	if err := reader.Sync(ctx); err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	reader.View(func(s *State) {
		for id := range acknowledged {
			if _, ok := s.Snapshot(id); !ok {
				t.Errorf("seed %d: snapshot %v was acknowledged and is gone", seed, id)
			}
		}
	})
}

func TestStoreThatLetsTwoCreatesWinIsCaught(t *testing.T) {
	store := mem.New()
	begun(t, store)
	rival := newJournal(store)
	var once sync.Once
	view := store.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Get && op.Name == Name(1) && op.Number > 3 { // the read-back
			once.Do(func() {
				if err := store.Delete(ctx, Name(1)); err != nil {
					t.Error(err)
				}
				commit(t, rival, snapshot(9))
			})
		}
		return mem.Fault{}
	})
	j := newJournal(view)
	_, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: snapshot(1)}, nil })
	if !errors.Is(err, ErrLost) {
		t.Errorf("commit whose entry was replaced: %v, want ErrLost", err)
	}
}

// A store that does not answer the read-back at once must not make a writer believe that it failed.
func TestCommitOutlivesAReadBackThatFailsAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New()
		begun(t, store)
		created, failures := false, 0
		j := newJournal(store.View(func(_ context.Context, op mem.Op) mem.Fault {
			created = created || op.Kind == mem.Create
			if created && op.Kind == mem.Get && failures < 3 {
				failures++
				return mem.Fault{Err: mem.ErrNoAnswer}
			}
			return mem.Fault{}
		}))
		if c := commit(t, j, snapshot(1)); c.Seq != 1 || failures != 3 {
			t.Errorf("committed as entry %d after %d failures, want 1 after 3", c.Seq, failures)
		}
	})
}

func TestCommitWithoutAnAnswerIsUnsure(t *testing.T) {
	for name, fails := range map[string]func(op mem.Op, created bool) bool{
		"of the create":    func(op mem.Op, _ bool) bool { return op.Kind == mem.Create },
		"of the read-back": func(op mem.Op, created bool) bool { return op.Kind == mem.Get && created },
	} {
		synctest.Test(t, func(t *testing.T) {
			store := mem.New()
			begun(t, store)
			created := false
			j := newJournal(store.View(func(_ context.Context, op mem.Op) mem.Fault {
				created = created || op.Kind == mem.Create
				if fails(op, created) {
					return mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
				}
				return mem.Fault{}
			}))
			_, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: snapshot(1)}, nil })
			if !errors.Is(err, ErrUnsure) || !errors.Is(err, mem.ErrNoAnswer) {
				t.Errorf("no answer %s: %v, want ErrUnsure", name, err)
			}
		})
	}
}

func TestCommitThatIsRefusedIsCertain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forbidden := &storage.Error{Class: storage.ErrForbidden, Err: errors.New("403")}
		for unanswered := range 2 {
			store := mem.New()
			begun(t, store)
			asked := 0
			j := newJournal(store.View(func(_ context.Context, op mem.Op) mem.Fault {
				if op.Kind != mem.Create {
					return mem.Fault{}
				}
				if asked++; asked <= unanswered {
					return mem.Fault{Err: mem.ErrNoAnswer}
				}
				return mem.Fault{Err: forbidden}
			}))
			_, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: snapshot(1)}, nil })
			if !errors.Is(err, storage.ErrForbidden) || errors.Is(err, ErrUnsure) != (unanswered > 0) || asked != unanswered+1 {
				t.Errorf("refused after %d tries without an answer: %v after %d tries", unanswered, err, asked)
			}
		}
	})
}

func TestWhatRetryGaveUpIsNotBegunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := mem.New()
		begun(t, store)
		j := newJournal(retry.New(store.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Kind == mem.Create {
				return mem.Fault{Err: mem.ErrNoAnswer}
			}
			return mem.Fault{}
		}), retry.Options{Budget: time.Minute}))
		started := time.Now()
		_, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: snapshot(1)}, nil })
		if !errors.Is(err, ErrUnsure) || !errors.Is(err, retry.ErrGaveUp) || time.Since(started) != time.Minute {
			t.Errorf("Commit = %v after %v, want ErrUnsure after a minute", err, time.Since(started))
		}
	})
}

// An entry that nobody could read would stop everybody, so it never stands.
func TestEntryThatWouldNotOpenAgainIsNotCreated(t *testing.T) {
	b := mem.New()
	j := begun(t, b)
	e := snapshot(1)
	e.Snapshots[0].UID = "not UTF-8: \xff"
	if _, err := j.Commit(ctx, func(*State) (Draft, error) { return Draft{Entry: e}, nil }); !errors.Is(err, ErrInvalid) {
		t.Errorf("commit of text that is none: %v, want ErrInvalid", err)
	}
	commit(t, j, snapshot(2))
	if err := newJournal(b).Sync(ctx); err != nil {
		t.Errorf("the journal afterwards: %v", err)
	}
}

func TestLongWayToTheHeadIsReadAhead(t *testing.T) {
	const entries = 500
	store := mem.New()
	j := begun(t, store)
	for i := range entries - 1 {
		commit(t, j, Entry{Client: strings.Repeat("x", firstRead/2*(i%4))}) // some need a second request
	}
	var now, most, requests atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		reader := newJournal(store.View(func(context.Context, mem.Op) mem.Fault {
			requests.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return mem.Fault{}
		}))
		if err := reader.Sync(ctx); err != nil || !bytes.Equal(encoded(t, reader), encoded(t, j)) {
			t.Errorf("read ahead: %v, or another state", err)
		}
		asked := requests.Load()
		if err := reader.Sync(ctx); err != nil || requests.Load() != asked+1 {
			t.Errorf("who is up to date makes %d requests, %v; want 1", requests.Load()-asked, err)
		}
	})
	if most.Load() < 2 || most.Load() > maxAhead {
		t.Errorf("%d requests at once, want some and at most %d", most.Load(), maxAhead)
	}
}

// While entries are read ahead others are created: a later one may be seen where an earlier one was
// not. That is a gap only if the earlier one is absent still.
func TestGapIsToldFromEntriesThatCameMeanwhile(t *testing.T) {
	for _, lost := range []bool{false, true} {
		store := mem.New()
		j := begun(t, store)
		for i := range byte(20) {
			commit(t, j, snapshot(i+1))
		}
		hidden, err := store.Get(ctx, Name(5), 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Delete(ctx, Name(5)); err != nil {
			t.Fatal(err)
		}
		var asked atomic.Int64
		reader := newJournal(store.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Name == Name(5) && asked.Add(1) == 2 && !lost {
				if err := store.Put(Name(5), hidden); err != nil {
					t.Error(err)
				}
			}
			return mem.Fault{}
		}))
		if err := reader.Sync(ctx); lost != errors.Is(err, ErrGap) || (!lost && err != nil) {
			t.Errorf("entry 5 lost %v: %v", lost, err)
		}
	}
}

func TestEntriesThatComeBeforeALookBeyondAreNoGap(t *testing.T) {
	b := mem.New()
	writer := begun(t, b)
	next, _ := writer.Head()
	looking := b.View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.List {
			commit(t, writer, snapshot(1))
			commit(t, writer, snapshot(2))
		}
		return mem.Fault{}
	})
	if err := EntriesBeyond(ctx, looking, next); err != nil {
		t.Errorf("two entries come between the last read and the listing: %v", err)
	}
	if err := b.Delete(ctx, Name(next)); err != nil {
		t.Fatal(err)
	}
	if err := EntriesBeyond(ctx, b, next); !errors.Is(err, ErrGap) {
		t.Errorf("an entry is lost: %v, want ErrGap", err)
	}
}

func TestAlteredHistoryIsRefused(t *testing.T) {
	whole := mem.New()
	j := begun(t, whole)
	for i := range byte(4) {
		commit(t, j, snapshot(i+1))
	}
	fork := mem.New()
	forked := begun(t, fork)
	commit(t, forked, snapshot(99))
	replaced, err := fork.Get(ctx, Name(1), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	later, err := whole.Get(ctx, Name(3), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	for reason, c := range map[string]struct {
		change func(b *mem.Bucket) error
		want   error
	}{
		"entry flipped": {func(b *mem.Bucket) error {
			return b.Damage(Name(2), func(d []byte) []byte { d[40] ^= 1; return d })
		}, ErrDamaged},
		"entry cut short": {func(b *mem.Bucket) error {
			return b.Damage(Name(2), func(d []byte) []byte { return d[:len(d)/2] })
		}, ErrDamaged},
		"entry of a newer format": {func(b *mem.Bucket) error {
			return b.Damage(Name(2), func(d []byte) []byte { d[4]++; return d })
		}, ErrVersion},
		"entry with an operation that is not known": {func(b *mem.Bucket) error {
			ops, err := encoding.Marshal(map[int]any{1: 2, 99: "later"})
			sealed := testKeys().SealCatalog(seal.Entry, sealName(2), ops)
			prefix := append([]byte(entryMagic), entryVersion, 0, 0, 0)
			prefix = binary.LittleEndian.AppendUint32(prefix, uint32(len(sealed)))
			return errors.Join(err, b.Damage(Name(2), func([]byte) []byte { return append(prefix, sealed...) }))
		}, ErrVersion},
		"entry of another number": {func(b *mem.Bucket) error {
			return b.Damage(Name(2), func([]byte) []byte { return later })
		}, ErrDamaged},
		"entry of another history": {func(b *mem.Bucket) error {
			return b.Damage(Name(1), func([]byte) []byte { return replaced })
		}, ErrRolledBack},
	} {
		b := whole.Clone()
		if err := c.change(b); err != nil {
			t.Fatal(err)
		}
		if err := newJournal(b).Sync(ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", reason, err, c.want)
		}
	}
}

func TestStateSurvivesItsCheckpoint(t *testing.T) {
	b := mem.New()
	j := begun(t, b)
	commit(t, j, Entry{Add: []Added{{Name: blob.Hash{1}, Size: 10, Rows: blob.AppendRows(nil, []blob.Row{{Class: blob.Data}})}}})
	e := snapshot(1)
	e.Snapshots[0].Refs = NewPacks(0)
	commit(t, j, e)
	var state *State
	j.View(func(s *State) { state = s })
	v, err := WriteCheckpoint(ctx, b, testKeys(), state)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := WriteCheckpoint(ctx, b, testKeys(), state); err != nil || again != v {
		t.Errorf("the same checkpoint again: %+v, %v", again, err)
	}
	if v.Size != int64(seal.Padded(int(v.Size))) {
		t.Errorf("checkpoint of %d bytes is not padded", v.Size)
	}
	back, found, err := FindCheckpoint(ctx, b, testKeys(), v.Next+1)
	if err != nil || found != v {
		t.Fatalf("found %+v, %v; want %+v", found, err, v)
	}
	if diff := cmp.Diff(state, back, cmpopts.IgnoreUnexported(State{}), cmp.Comparer(func(a, b *Packs) bool {
		return a.Equals(b)
	})); diff != "" {
		t.Errorf("(-stored +read):\n%s", diff)
	}
	if n, ok := back.Number(blob.Hash{1}); !ok || n != 0 {
		t.Errorf("the state read back knows the pack as %d, %v", n, ok)
	}
	if none, _, err := FindCheckpoint(ctx, b, testKeys(), v.Next); err != nil || none.Next != 0 {
		t.Errorf("below it there is one of %d entries, %v", none.Next, err)
	}
}

func TestNameOfAnEntryIsOneToOne(t *testing.T) {
	for _, n := range []uint64{0, 1, 255, 1 << 40, 1<<64 - 1} {
		if got, ok := ParseName(Name(n)); !ok || got != n {
			t.Errorf("ParseName(%q) = %d, %v", Name(n), got, ok)
		}
	}
	for _, bad := range []string{"journal/", "journal/1", "journal/000000000000000G", "journal/000000000000000A", "packs/0000000000000000"} {
		if n, ok := ParseName(bad); ok {
			t.Errorf("ParseName(%q) = %d", bad, n)
		}
	}
}

// A list of nothing takes one byte an element in an entry, and more than a hundred in memory.
func TestEntryListsNoMoreThanItCanHold(t *testing.T) {
	const array, emptyMap = "\x9a", "\xa0" // of a length in four bytes; of no pairs
	list := func(n uint32) []byte {
		ops := binary.BigEndian.AppendUint32([]byte("\xa1\x0a"+array), n)
		return append(ops, bytes.Repeat([]byte(emptyMap), int(n))...)
	}
	for n, want := range map[uint32]error{1 << 18: nil, 1 << 19: ErrDamaged} {
		ops := list(n)
		data := append([]byte(entryMagic), entryVersion, 0, 0, 0)
		data = binary.LittleEndian.AppendUint32(data, uint32(len(ops)+seal.Overhead))
		data = append(data, testKeys().SealCatalog(seal.Entry, sealName(0), ops)...)
		if _, err := open(testKeys(), 0, data); !errors.Is(err, want) {
			t.Errorf("entry with %d snapshots: %v, want %v", n, err, want)
		}
	}
}

func TestBitThatFlipsOnTheWayEndsNoCommit(t *testing.T) {
	for reads := range 4 {
		b := mem.New()
		begun(t, b)
		asked := 0
		flipping := newJournal(b.View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Kind != mem.Get {
				return mem.Fault{}
			}
			if asked++; asked-1 == reads {
				return mem.Fault{Flip: 1000}
			}
			return mem.Fault{}
		}))
		if _, err := flipping.Commit(t.Context(), func(*State) (Draft, error) { return Draft{Entry: snapshot(1)}, nil }); err != nil {
			t.Errorf("flip in read %d: %v", reads, err)
		}
	}
}
