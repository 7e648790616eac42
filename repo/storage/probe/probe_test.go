package probe

import (
	"context"
	"errors"
	"iter"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
)

var errOutage = errors.New("503 Slow Down")

// faultsOf are the faults of a report by capability.
func faultsOf(r Report) map[Capability]Fault {
	faults := map[Capability]Fault{}
	for _, f := range r.Findings {
		if f.Fault != "" {
			faults[f.Capability] = f.Fault
		}
	}
	return faults
}

// run probes a bucket in a time of its own, in which waiting takes none.
func run(t *testing.T, o Options, open func() storage.Bucket, look func(t *testing.T, b storage.Bucket, r Report)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := open()
		r, err := Run(t.Context(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		look(t, b, r)
	})
}

func TestEveryKnownFaultIsCalledByItsName(t *testing.T) {
	for _, test := range []struct {
		store    string
		open     func() storage.Bucket
		complete bool // a quick probe does not find it
		want     map[Capability]Fault
		bearable bool
	}{
		{store: "a good one", open: lie(func(*liar) {}), complete: true, bearable: true},
		{
			store: "overwrites silently", open: lie(overwrites(0)), complete: true,
			want: map[Capability]Fault{Create: ConditionIgnored, Race: TwoWinners, Size: ConditionIgnored},
		},
		{
			store: "overwrites what comes in parts", open: lie(overwrites(8 << 20)), complete: true,
			want: map[Capability]Fault{Size: LargeConditionIgnored},
		},
		{store: "two winners now and then", open: lie(letsTwoWin), want: map[Capability]Fault{Race: TwoWinners}},
		{store: "overwrites once a race is over", open: lie(forgetsWinners), want: map[Capability]Fault{Race: ConditionIgnored}},
		{
			store: "refuses and writes", open: lie(writesRefused), complete: true,
			want: map[Capability]Fault{Create: RefusedAndWritten, Race: WinnerReplaced, Size: RefusedAndWritten},
		},
		{store: "another winner later", open: lie(settlesLate), complete: true, want: map[Capability]Fault{Settled: WinnerReplaced}},
		{store: "refuses all who race", open: lie(refusesAll), want: map[Capability]Fault{Race: NobodyWins}},
		{
			store: "shows objects late", open: lie(lags),
			want: map[Capability]Fault{
				Create: StaleReads, Delete: StaleReads, Race: StaleReads, Read: StaleReads,
				Ranges: StaleReads, Names: StaleReads,
			},
		},
		{store: "a cache of what was not found", open: lie(remembersAbsence), want: map[Capability]Fault{Read: CachedAbsence}},
		{store: "a cache of what was found", open: lie(remembersObjects), want: map[Capability]Fault{Delete: StaleReads}},
		{
			store: "lists late", open: lie(relists(recentLeftOut)), complete: true,
			want: map[Capability]Fault{List: StaleList, Pages: StaleList},
		},
		{store: "lists what was deleted", open: lie(listsDeleted), want: map[Capability]Fault{List: StaleList}},
		{store: "lists a page", open: lie(relists(truncated)), complete: true, want: map[Capability]Fault{Pages: TruncatedList}},
		{store: "lists as people sort", open: lie(relists(unsorted)), want: map[Capability]Fault{List: UnsortedList}},
		{store: "lists twice", open: lie(relists(repeated)), want: map[Capability]Fault{List: RepeatedInList}},
		{
			store: "lists from the beginning", want: map[Capability]Fault{List: StartAfterIgnored},
			open: lie(listsFrom(func(prefix, _ string) (string, string) { return prefix, "" })),
		},
		{
			store: "lists everything", want: map[Capability]Fault{List: ForeignInList, Names: ForeignInList},
			open: lie(listsFrom(func(_, startAfter string) (string, string) { return "", startAfter })),
		},
		{
			store: "whole objects for ranges", want: map[Capability]Fault{Ranges: RangeIgnored},
			open: lie(reads(func(_, _ int64) (int64, int64) { return 0, -1 })),
		},
		{
			store: "ranges begin one late", want: map[Capability]Fault{Ranges: RangeShifted},
			open: lie(reads(func(offset, length int64) (int64, int64) { return offset + 1, length })),
		},
		{
			store: "ranges end one late", want: map[Capability]Fault{Ranges: RangeShifted},
			open: lie(reads(func(offset, length int64) (int64, int64) { return offset, length + 1 })),
		},
		{
			store: "ranges end one early", want: map[Capability]Fault{Ranges: RangeShifted},
			open: lie(reads(func(offset, length int64) (int64, int64) { return offset, max(length-1, 0) })),
		},
		{store: "an error at the end", open: lie(refusesTheEnd), want: map[Capability]Fault{Ranges: RangeEndRefused}},
		{
			store: "the last byte is lost", want: map[Capability]Fault{Ranges: ShortObject},
			open: lie(stores(shortened(64 << 10))),
		},
		{store: "a limit of size", open: lie(stores(shortened(16 << 20))), complete: true, want: map[Capability]Fault{Size: ShortObject}},
		{
			store: "text mode", open: lie(stores(inverted)),
			want: map[Capability]Fault{Create: RefusedAndWritten, Race: AlteredBytes, Read: AlteredBytes, Ranges: AlteredBytes, Names: AlteredBytes},
		},
		{store: "names without dots at the end", open: lie(stores(dotless)), want: map[Capability]Fault{Names: NameAltered}},
		{store: "deletes nothing", open: lie(deletesNothing), want: map[Capability]Fault{Delete: DeleteIgnored}},
		{store: "may not delete", open: lie(mayNotDelete), complete: true, want: map[Capability]Fault{Delete: DeleteRefused}, bearable: true},
		{store: "wants what it deletes", open: lie(missesAbsent), want: map[Capability]Fault{Delete: AbsentDeleteRefused}},
		{
			store: "a day ahead", want: map[Capability]Fault{Clock: ClockOff}, bearable: true,
			open: withClock(func() time.Time { return time.Now().Add(24 * time.Hour) }),
		},
		{
			store: "a day behind", want: map[Capability]Fault{Clock: ClockOff}, bearable: true,
			open: withClock(func() time.Time { return time.Now().Add(-24 * time.Hour) }),
		},
		{
			store: "no versions and no locks", want: map[Capability]Fault{Versioning: NoVersioning, Lock: NoLock}, bearable: true,
			open: func() storage.Bucket { return kept{Bucket: mem.New()} },
		},
		{
			store: "versions and locks", bearable: true,
			open: func() storage.Bucket { return kept{mem.New(), true, true, 24 * time.Hour} },
		},
	} {
		t.Run(test.store, func(t *testing.T) {
			run(t, Options{Quick: !test.complete}, test.open, func(t *testing.T, _ storage.Bucket, r Report) {
				if test.want == nil {
					test.want = map[Capability]Fault{}
				}
				if diff := cmp.Diff(test.want, faultsOf(r)); diff != "" {
					t.Errorf("faults: -want +got\n%s", diff)
				}
				if r.Suitable != test.bearable || errors.Is(r.Err(), ErrUnfit) == test.bearable {
					t.Errorf("suitable: %v, %v", r.Suitable, r.Err())
				}
				for _, f := range r.Findings {
					if f.Saw == "" || (f.Verdict == Broken || f.Verdict == Missing) && !strings.HasSuffix(f.Means, ".") {
						t.Errorf("%s is %s without a sentence: %q, %q", f.Capability, f.Verdict, f.Saw, f.Means)
					}
				}
			})
		})
	}
}

// A store that knows nothing of conditional creates can store nothing, and is asked for nothing more.
func TestWithoutConditionalCreatesNothingElseIsTried(t *testing.T) {
	requests := 0
	open := lie(func(l *liar) {
		l.create = func(context.Context, string, []byte) error {
			requests++
			return &storage.Error{Class: storage.ErrUnsupported, Err: errors.New("501 Not Implemented")}
		}
	})
	run(t, Options{}, open, func(t *testing.T, _ storage.Bucket, r Report) {
		if diff := cmp.Diff(map[Capability]Fault{Create: ConditionUnsupported}, faultsOf(r)); diff != "" || requests != 1 {
			t.Errorf("%d creates; -want +got\n%s", requests, diff)
		}
		if r.Findings[0].Verdict != Missing || r.Findings[1].Verdict != Unknown || !errors.Is(r.Err(), ErrUnfit) {
			t.Errorf("%+v", r.Findings)
		}
	})
}

var allFaults = []Fault{
	ConditionUnsupported, ConditionIgnored, LargeConditionIgnored, TwoWinners, WinnerReplaced, RefusedAndWritten, NobodyWins,
	StaleReads, CachedAbsence, AlteredBytes, ShortObject, RangeIgnored, RangeShifted, RangeEndRefused,
	StaleList, TruncatedList, UnsortedList, RepeatedInList, ForeignInList, StartAfterIgnored, NameAltered,
	UnusableAnswer, DeleteRefused, DeleteIgnored, AbsentDeleteRefused, ClockOff, NoVersioning, NoLock,
}

func TestEveryFaultSaysWhatItMeans(t *testing.T) {
	for _, f := range allFaults {
		if about := f.about(); about.means == "" || about.verdict == "" || about.verdict == Missing && f != ConditionUnsupported && !about.bearable {
			t.Errorf("%s: %+v", f, about)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	run(t, Options{}, lie(func(*liar) {}), func(t *testing.T, b storage.Bucket, r Report) {
		if left := infosOf(b.List(t.Context(), "", "")); len(left) > 0 || r.Left.Objects > 0 {
			t.Errorf("left: %v, reported %+v", left, r.Left)
		}
	})
}

func TestWhatIsLeftBehindIsNamed(t *testing.T) {
	for name, how := range map[string]func(*liar){"may not delete": mayNotDelete, "deletes nothing": deletesNothing} {
		t.Run(name, func(t *testing.T) {
			run(t, Options{}, lie(how), func(t *testing.T, b storage.Bucket, r Report) {
				left := infosOf(b.List(t.Context(), "", ""))
				if len(left) == 0 || r.Left.Objects != len(left) {
					t.Errorf("left: %d objects, reported %+v", len(left), r.Left)
				}
				bytes := int64(0)
				for _, info := range left {
					bytes += info.Size
					if !strings.HasPrefix(info.Name, r.Left.Folder) {
						t.Errorf("%s is not in %s", info.Name, r.Left.Folder)
					}
				}
				if len(left) > 100 || bytes > 1<<20 {
					t.Errorf("%d objects of %d bytes are left where nothing can be deleted", len(left), bytes)
				}
			})
		})
	}
}

func TestAnInterruptedProbeRemovesWhatItStored(t *testing.T) {
	for _, after := range []int64{1, 2, 5, 30, 100, 300, 900} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			store := mem.New()
			b := store.View(func(_ context.Context, op mem.Op) mem.Fault {
				if op.Number == after {
					cancel()
				}
				return mem.Fault{}
			})
			r, err := Run(ctx, b, Options{})
			if !errors.Is(err, context.Canceled) || r.Suitable {
				t.Errorf("after %d requests: %v, suitable: %v", after, err, r.Suitable)
			}
			if left := infosOf(store.List(t.Context(), "", "")); len(left) > 0 {
				t.Errorf("after %d requests: %d objects are left, such as %s", after, len(left), left[0].Name)
			}
		})
	}
}

// What a killed run has left is removed, but nothing else is, even if the store lists what nobody asked for.
func TestOnlyOldLeftoversOfProbesAreRemoved(t *testing.T) {
	old, young := []string{"probe-0123456789abcdef/race/1-0"}, []string{"probe-00000000000000ff/taken"}
	foreign := []string{
		"journal/0000000000000000", "probe-0123456789abcdef", "probe-0123/x", "probe-results/x", "probe-0123456789abcdefff/x",
		"probe/0123456789abcdef", "x/probe-0123456789abcdef/taken", "0123456789abcdef/x",
	}
	everything := lie(listsFrom(func(_, startAfter string) (string, string) { return "", startAfter }))
	synctest.Test(t, func(t *testing.T) {
		b := everything().(*liar)
		put := func(names []string) {
			for _, name := range names {
				if err := b.Put(name, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(old)
		put(foreign)
		time.Sleep(50 * time.Minute)
		put(young)
		time.Sleep(20 * time.Minute)
		if _, err := Run(t.Context(), b, Options{Quick: true}); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{young[0]: true}
		for _, name := range foreign {
			want[name] = true
		}
		got := map[string]bool{}
		for _, info := range infosOf(b.List(t.Context(), "", "")) {
			got[info.Name] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// Whom the store does not answer, it does not condemn.
func TestAnOutageIsNoFault(t *testing.T) {
	for _, from := range []int64{4, 8, 20, 60, 100} {
		view := mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
			if op.Number >= from {
				return mem.Fault{Err: errOutage}
			}
			return mem.Fault{}
		})
		run(t, Options{Quick: true}, func() storage.Bucket { return view }, func(t *testing.T, _ storage.Bucket, r Report) {
			if len(faultsOf(r)) > 0 || r.Suitable || !errors.Is(r.Err(), errOutage) || errors.Is(r.Err(), ErrUnfit) {
				t.Errorf("from request %d on: %v, suitable: %v, %v", from, faultsOf(r), r.Suitable, r.Err())
			}
		})
	}
}

func TestAStoreThatTakesNothingIsAnError(t *testing.T) {
	view := mem.New().View(func(context.Context, mem.Op) mem.Fault { return mem.Fault{Err: storage.ErrNoBucket} })
	r, err := Run(t.Context(), view, Options{})
	if !errors.Is(err, storage.ErrNoBucket) || len(r.Findings) > 0 || r.Suitable || r.Left.Objects > 0 {
		t.Errorf("Run = %+v, %v", r, err)
	}
	if err := Decides(t.Context(), view); !errors.Is(err, storage.ErrNoBucket) || errors.Is(err, ErrUnfit) {
		t.Errorf("Decides = %v", err)
	}
}

// losesAnswers is a good store behind a bad network and a client that asks again: of every so many creates
// the first answer is lost, and to the second the object that it made is in its own way.
func losesAnswers(every int64) func(*liar) {
	var asked atomic.Int64
	return func(l *liar) {
		l.create = func(ctx context.Context, name string, data []byte) error {
			err := l.Bucket.Create(ctx, name, data)
			if err == nil && asked.Add(1)%every == 0 {
				err = storage.ErrExists
			}
			return err
		}
	}
}

func TestALostAnswerIsNoFault(t *testing.T) {
	run(t, Options{Quick: true}, lie(losesAnswers(4)), func(t *testing.T, _ storage.Bucket, r Report) {
		for _, f := range r.Findings {
			if f.Capability == Race && f.Verdict != OK {
				t.Errorf("%+v", f)
			}
		}
	})
	once := mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
		if op.Kind == mem.Create && strings.Contains(op.Name, "/race/") && op.Number%16 != 0 {
			return mem.Fault{Err: mem.ErrNoAnswer, AfterEffect: true}
		}
		return mem.Fault{}
	})
	run(t, Options{Quick: true}, func() storage.Bucket { return once }, func(t *testing.T, _ storage.Bucket, r Report) {
		if len(faultsOf(r)) > 0 {
			t.Errorf("%v", faultsOf(r))
		}
	})
}

func TestDecides(t *testing.T) {
	for _, test := range []struct {
		store string
		how   func(*liar)
		fit   bool
	}{
		{"a good one", func(*liar) {}, true},
		{"may not delete", mayNotDelete, true},
		{"a day off is not asked for", relists(truncated), true},
		{"overwrites silently", overwrites(0), false},
		{"refuses and writes", writesRefused, false},
		{"shows objects late", lags, false},
	} {
		l := lie(test.how)().(*liar)
		err := Decides(t.Context(), l)
		if (err == nil) != test.fit || errors.Is(err, ErrUnfit) == test.fit {
			t.Errorf("%s: %v", test.store, err)
		}
		if left := infosOf(l.List(t.Context(), "", "")); len(left) > 0 && test.store != "may not delete" {
			t.Errorf("%s: %d objects are left", test.store, len(left))
		}
	}
}

func TestDecidesTakesFewRequests(t *testing.T) {
	var asked atomic.Int64
	view := mem.New().View(func(_ context.Context, op mem.Op) mem.Fault {
		asked.Store(op.Number)
		return mem.Fault{}
	})
	if err := Decides(t.Context(), view); err != nil {
		t.Fatal(err)
	}
	if n := asked.Load(); n > 20 {
		t.Errorf("%d requests", n)
	}
}

func TestProgressNamesEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var steps []Progress
		if _, err := Run(t.Context(), mem.New(), Options{Quick: true, Progress: func(p Progress) { steps = append(steps, p) }}); err != nil {
			t.Fatal(err)
		}
		for i, s := range steps {
			if s.Step == "" || s.Done != i || s.Total != len(steps) || len(steps) != len(checks()) {
				t.Errorf("step %d: %+v", i, s)
			}
		}
	})
}

// What a driver itself refuses to work with is held against the store, and anything else of the network is not.
func TestFailuresAreJudgedByTheirClass(t *testing.T) {
	for _, test := range []struct {
		class error
		want  map[Capability]Fault
	}{
		{storage.ErrUnsupported, map[Capability]Fault{Ranges: RangeEndRefused, List: UnusableAnswer, Names: UnusableAnswer, Delete: AbsentDeleteRefused}},
		{storage.ErrTemporary, map[Capability]Fault{}},
		{storage.ErrForbidden, map[Capability]Fault{}},
	} {
		failure := &storage.Error{Class: test.class, Err: errors.New("said so"), Hint: "do something about it"}
		open := lie(func(l *liar) {
			l.get = func(ctx context.Context, name string, offset, length int64) ([]byte, error) {
				if offset > rangeBytes {
					return nil, failure
				}
				return l.Bucket.Get(ctx, name, offset, length)
			}
			l.list = func(context.Context, string, string) iter.Seq2[storage.Info, error] {
				return func(yield func(storage.Info, error) bool) { yield(storage.Info{}, failure) }
			}
			l.remove = func(ctx context.Context, name string) error {
				if _, err := l.Bucket.Stat(ctx, name); err != nil {
					return failure
				}
				return l.Bucket.Delete(ctx, name)
			}
		})
		run(t, Options{Quick: true}, open, func(t *testing.T, _ storage.Bucket, r Report) {
			if diff := cmp.Diff(test.want, faultsOf(r)); diff != "" {
				t.Errorf("%v: -want +got\n%s", test.class, diff)
			}
			if len(test.want) == 0 && (errors.Is(r.Err(), ErrUnfit) || !errors.Is(r.Err(), test.class)) {
				t.Errorf("%v: %v", test.class, r.Err())
			}
			for _, f := range r.Findings {
				if f.failure != nil && f.Means != "Do something about it." {
					t.Errorf("%s: %q", f.Capability, f.Means)
				}
			}
		})
	}
}

// wrapped stands before another bucket and hides what it can do besides.
type wrapped struct {
	storage.Bucket
	inner storage.Bucket
}

func (w wrapped) Unwrap() storage.Bucket { return w.inner }

func TestTheDriverIsAskedWhatOnlyItCanTell(t *testing.T) {
	driver := kept{mem.New(), true, false, 0}
	open := func() storage.Bucket { return wrapped{driver, wrapped{driver, driver}} }
	run(t, Options{Quick: true}, open, func(t *testing.T, _ storage.Bucket, r Report) {
		if diff := cmp.Diff(map[Capability]Fault{Lock: NoLock}, faultsOf(r)); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// The page on stores is where an operator looks a fault up.
func TestThePageOnStoresNamesAllThereIs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/operations/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checks() {
		if !strings.Contains(string(page), "`"+string(c.capability)+"`") {
			t.Errorf("capability %s is not on the page", c.capability)
		}
	}
	for _, f := range allFaults {
		if !strings.Contains(string(page), "`"+string(f)+"`") {
			t.Errorf("fault %s is not on the page", f)
		}
	}
}
