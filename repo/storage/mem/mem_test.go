package mem

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return New() })
}

func TestStorageThroughView(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket {
		return New().View(func(context.Context, Op) Fault { return Fault{} })
	})
}

var errInjected = errors.New("injected")

// faulty returns a bucket with the object "old" and a view of it in which every request fails so.
func faulty(t *testing.T, fault Fault) (store, view *Bucket) {
	t.Helper()
	store = New()
	create(t, store, "old", "0123")
	return store, store.View(func(context.Context, Op) Fault { return fault })
}

func TestChangesFail(t *testing.T) {
	for _, test := range []struct {
		why   string
		fault Fault
		want  error    // of the Create of "new" and the Delete of "old"
		now   []string // names after both
		held  []Op
		later []string // names after the effects held back, in the order they were asked for
	}{
		{"error before the effect", Fault{Err: errInjected}, errInjected, []string{"old"}, nil, []string{"old"}},
		{"throttling", Fault{Err: ErrThrottled}, ErrThrottled, []string{"old"}, nil, []string{"old"}},
		{"answer lost after the effect", Fault{Err: errInjected, AfterEffect: true}, errInjected, []string{"new"}, nil, []string{"new"}},
		{"only after, without an error", Fault{AfterEffect: true}, nil, []string{"new"}, nil, []string{"new"}},
		{"late", Fault{Late: true}, ErrNoAnswer, []string{"old"},
			[]Op{{Kind: Create, Name: "new", Data: []byte("n")}, {Kind: Delete, Name: "old"}}, []string{"new"}},
		{"late with another error", Fault{Late: true, Err: errInjected}, errInjected, []string{"old"},
			[]Op{{Kind: Create, Name: "new", Data: []byte("n")}, {Kind: Delete, Name: "old"}}, []string{"new"}},
		{"duplicate", Fault{Duplicate: true}, nil, []string{"new"},
			[]Op{{Kind: Create, Name: "new", Data: []byte("n")}, {Kind: Delete, Name: "old"}}, []string{"new"}},
	} {
		t.Run(test.why, func(t *testing.T) {
			store, view := faulty(t, test.fault)
			if err := view.Create(t.Context(), "new", []byte("n")); !errors.Is(err, test.want) {
				t.Errorf("Create = %v, want %v", err, test.want)
			}
			if err := view.Delete(t.Context(), "old"); !errors.Is(err, test.want) {
				t.Errorf("Delete = %v, want %v", err, test.want)
			}
			if diff := cmp.Diff(test.now, names(t, store)); diff != "" {
				t.Errorf("at first: -want +got\n%s", diff)
			}
			held := store.Held()
			if diff := cmp.Diff(test.held, held, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("held back: -want +got\n%s", diff)
			}
			for range held {
				if err := store.Release(0); err != nil && !errors.Is(err, storage.ErrExists) {
					t.Errorf("Release: %v", err)
				}
			}
			if diff := cmp.Diff(test.later, names(t, store)); diff != "" {
				t.Errorf("later: -want +got\n%s", diff)
			}
		})
	}
}

// TestDuplicatesLandLate shows the two that hurt: a create that comes again after its object was
// deleted, and a delete that comes again after the name was given anew.
func TestDuplicatesLandLate(t *testing.T) {
	store, view := faulty(t, Fault{Duplicate: true})
	if err := view.Create(t.Context(), "a", []byte("data")); err != nil {
		t.Fatal(err)
	}
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := store.Release(0); err != nil {
		t.Fatal(err)
	}
	if got := get(t, store, "a"); got != "data" {
		t.Errorf("the second create left %q", got)
	}
	if err := view.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	create(t, store, "a", "other")
	if err := store.Release(0); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Get(t.Context(), "a", 0, -1); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("after the second delete Get = %v, want ErrNotFound", err)
	}
}

func TestLateCreateFindsNameTaken(t *testing.T) {
	store, view := faulty(t, Fault{Late: true})
	data := []byte("late")
	for _, name := range []string{"a", "b", "c"} {
		if err := view.Create(t.Context(), name, data); !errors.Is(err, ErrNoAnswer) {
			t.Fatalf("Create = %v, want ErrNoAnswer", err)
		}
	}
	copy(data, "XXXX") // the caller may use its slice again
	other := store.Clone()
	create(t, store, "a", "first")
	if err := store.Release(0); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Release = %v, want ErrExists", err)
	}
	if got := get(t, store, "a"); got != "first" {
		t.Errorf("a late create replaced the object by %q", got)
	}
	if len(other.Held()) != 0 {
		t.Error("a clone holds back requests of its original")
	}
	if err := store.Release(1); err != nil || get(t, store, "c") != "late" {
		t.Errorf("Release = %v, and the object is %q", err, get(t, store, "c"))
	}
	if err := store.Drop(0); err != nil || len(store.Held()) != 0 {
		t.Errorf("Drop = %v, and %d are held back", err, len(store.Held()))
	}
	if store.Release(0) == nil || store.Drop(0) == nil {
		t.Error("released or dropped what is not there")
	}
}

func TestReadsFail(t *testing.T) {
	for _, test := range []struct {
		why   string
		fault Fault
		want  string
		err   error
	}{
		{"no fault", Fault{}, "0123", nil},
		{"error", Fault{Err: errInjected}, "", errInjected},
		{"first bit", Fault{Flip: 1}, "1123", nil},
		{"bit of the third byte", Fault{Flip: 17}, "0133", nil},
		{"bits are counted round", Fault{Flip: 33}, "1123", nil},
		{"short", Fault{Short: 3}, "0", nil},
		{"shorter than empty", Fault{Short: 9}, "", nil},
	} {
		store, view := faulty(t, test.fault)
		got, err := view.Get(t.Context(), "old", 0, -1)
		if string(got) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: Get = %q, %v, want %q, %v", test.why, got, err, test.want, test.err)
		}
		if _, err := view.Stat(t.Context(), "old"); !errors.Is(err, test.err) {
			t.Errorf("%s: Stat = %v, want %v", test.why, err, test.err)
		}
		if got := get(t, store, "old"); got != "0123" {
			t.Errorf("%s: the object itself is %q now", test.why, got)
		}
	}
}

func TestListsFail(t *testing.T) {
	store := New()
	for _, name := range []string{"a", "b", "c"} {
		create(t, store, name, "")
	}
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	create(t, store, "d", "")
	for _, test := range []struct {
		why   string
		fault Fault
		want  []string
		err   error
	}{
		{"no fault", Fault{}, []string{"b", "c", "d"}, nil},
		{"error at once", Fault{Err: errInjected}, []string{}, errInjected},
		{"error after two names", Fault{Err: errInjected, Keep: 2}, []string{"b", "c"}, errInjected},
		{"error after the last name", Fault{Err: errInjected, Keep: 9}, []string{"b", "c", "d"}, errInjected},
		{"before the last create", Fault{Stale: 1}, []string{"b", "c"}, nil},
		{"before the delete", Fault{Stale: 2}, []string{"a", "b", "c"}, nil},
		{"before that", Fault{Stale: 3}, []string{"a", "b"}, nil},
		{"before everything", Fault{Stale: 99}, []string{}, nil},
		{"stale and broken off", Fault{Stale: 2, Err: errInjected, Keep: 1}, []string{"a"}, errInjected},
	} {
		view := store.View(func(context.Context, Op) Fault { return test.fault })
		got, last := []string{}, error(nil)
		for info, err := range view.List(t.Context(), "", "") {
			if err != nil {
				last = err
				continue
			}
			got = append(got, info.Name)
		}
		if diff := cmp.Diff(test.want, got); diff != "" || !errors.Is(last, test.err) {
			t.Errorf("%s: ended with %v, want %v; -want +got\n%s", test.why, last, test.err, diff)
		}
	}
}

// TestInterceptorSeesRequests also plays a crash: from the fourth request on nothing works, for this
// view alone.
func TestInterceptorSeesRequests(t *testing.T) {
	store := New()
	var seen []string
	view := store.View(func(_ context.Context, op Op) Fault {
		seen = append(seen, fmt.Sprintf("%d %s %s %q %d+%d >%s", op.Number, op.Kind, op.Name, op.Data, op.Offset, op.Length, op.StartAfter))
		if op.Number >= 4 {
			return Fault{Err: ErrCrashed}
		}
		return Fault{}
	})
	create(t, view, "a", "data")
	_, getErr := view.Get(t.Context(), "a", 1, 2)
	_, statErr := view.Stat(t.Context(), "a")
	var listErr error
	for _, err := range view.List(t.Context(), "p", "q") {
		listErr = err
	}
	deleteErr := view.Delete(t.Context(), "a")
	if getErr != nil || statErr != nil || !errors.Is(listErr, ErrCrashed) || !errors.Is(deleteErr, ErrCrashed) {
		t.Errorf("Get: %v, Stat: %v, List: %v, Delete: %v", getErr, statErr, listErr, deleteErr)
	}
	want := []string{`1 create a "data" 0+0 >`, `2 get a "" 1+2 >`, `3 stat a "" 0+0 >`, `4 list p "" 0+0 >q`, `5 delete a "" 0+0 >`}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := get(t, store, "a"); got != "data" {
		t.Errorf("another view reads %q", got)
	}
}

// TestInterceptorMayWait pauses one machine in the middle of a request while another goes on.
func TestInterceptorMayWait(t *testing.T) {
	store := New()
	arrived, resume := make(chan struct{}), make(chan struct{})
	paused := store.View(func(context.Context, Op) Fault {
		close(arrived)
		<-resume
		return Fault{}
	})
	answer := make(chan error)
	go func() { answer <- paused.Create(context.Background(), "a", []byte("paused")) }()
	<-arrived
	create(t, store, "a", "other")
	close(resume)
	if err := <-answer; !errors.Is(err, storage.ErrExists) {
		t.Errorf("Create = %v, want ErrExists", err)
	}
}

func TestContextEndsWhileInterceptorWaits(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	store := New()
	view := store.View(func(ctx context.Context, _ Op) Fault {
		cancel()
		return Fault{}
	})
	if err := view.Create(ctx, "a", nil); !errors.Is(err, context.Canceled) || len(names(t, store)) > 0 {
		t.Errorf("Create = %v, and there is %v", err, names(t, store))
	}
}

func TestCloneSharesNoFate(t *testing.T) {
	store := New()
	create(t, store, "a", "1")
	create(t, store, "b", "2")
	clone := store.Clone()
	if err := store.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	create(t, clone, "c", "3")
	flip := func(data []byte) []byte { data[0] ^= 1; return data }
	if err := clone.Damage("b", flip); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b"}, names(t, store)); diff != "" {
		t.Errorf("original: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names(t, clone)); diff != "" {
		t.Errorf("clone: -want +got\n%s", diff)
	}
	if got, damaged := get(t, store, "b"), get(t, clone, "b"); got != "2" || damaged != "3" {
		t.Errorf("b is %q and %q in the clone, want 2 and 3", got, damaged)
	}
}

func TestDirectChanges(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	store := NewWithClock(func() time.Time { return now })
	create(t, store, "a", "data")
	now = now.Add(time.Hour)
	if err := store.Damage("a", func(data []byte) []byte { return append(data, "more"...) }); err != nil {
		t.Fatal(err)
	}
	info, err := store.Stat(t.Context(), "a")
	if want := (storage.Info{Name: "a", Size: 8, ModTime: time.Unix(1_000_000, 0)}); err != nil || info != want {
		t.Errorf("after Damage Stat = %+v, %v, want %+v", info, err, want)
	}
	if err := store.Put("a", []byte("else")); err != nil {
		t.Fatal(err)
	}
	info, err = store.Stat(t.Context(), "a")
	if want := (storage.Info{Name: "a", Size: 4, ModTime: now}); err != nil || info != want {
		t.Errorf("after Put Stat = %+v, %v, want %+v", info, err, want)
	}
	if err := store.Put("../a", nil); !errors.Is(err, storage.ErrBadName) {
		t.Errorf("Put of a bad name = %v", err)
	}
	if err := store.Damage("absent", nil); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Damage of an absent object = %v", err)
	}
}

func create(t *testing.T, b *Bucket, name, data string) {
	t.Helper()
	if err := b.Create(t.Context(), name, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, b *Bucket, name string) string {
	t.Helper()
	data, err := b.Get(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, b *Bucket) []string {
	t.Helper()
	names := []string{}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, info.Name)
	}
	return names
}
