// Package storagetest checks that a bucket keeps the promises of [storage.Bucket]. Every driver and
// every decorator runs it from its own tests; what it does not check, a repository must not rely on.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
)

// racers is how many creators race for one name, and raceRounds how often.
const (
	racers     = 16
	raceRounds = 20
)

// An Exception is a test that a store is known to fail, with the reason why a repository can live with
// that.
type Exception struct{ Test, Reason string }

// Run checks the buckets that open makes. Each call of open must return an empty bucket of its own,
// cleaned up by t.
func Run(t *testing.T, open func(t *testing.T) storage.Bucket, except ...Exception) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b storage.Bucket)
	}{
		{"CreateRefusesTakenName", testCreateRefusesTakenName},
		{"CreateHasOneWinner", testCreateHasOneWinner},
		{"CreateDoesNotKeepData", testCreateDoesNotKeepData},
		{"CreateAfterDelete", testCreateAfterDelete},
		{"ReadAfterWrite", testReadAfterWrite},
		{"Ranges", testRanges},
		{"AbsentObjects", testAbsentObjects},
		{"FoldersAreNoObjects", testFoldersAreNoObjects},
		{"StatSaysSizeAndTime", testStat},
		{"ListOrderPrefixStart", testList},
		{"ListManyNames", testListManyNames},
		{"ListNothing", testListNothing},
		{"ListStopsWhenAsked", testListStopsWhenAsked},
		{"DeleteIsFinalAndRepeatable", testDelete},
		{"BadNamesAreRefused", testBadNames},
		{"CancelledContext", testCancelled},
		{"CancelledCreateLeavesNoPart", testCancelledCreate},
		{"Concurrency", testConcurrency},
		{"URLStaysTheSame", testString},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, e := range except {
				if e.Test == test.name {
					t.Skip(e.Reason)
				}
			}
			b := open(t)
			test.run(t, b)
			if err := b.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

func testCreateRefusesTakenName(t *testing.T, b storage.Bucket) {
	create(t, b, "journal/0", "first")
	for _, data := range []string{"second", "first", ""} {
		if err := b.Create(t.Context(), "journal/0", []byte(data)); !errors.Is(err, storage.ErrExists) {
			t.Errorf("Create of a taken name = %v, want ErrExists", err)
		}
	}
	wantObject(t, b, "journal/0", "first")
}

func testCreateHasOneWinner(t *testing.T, b storage.Bucket) {
	for round := range raceRounds {
		name := fmt.Sprintf("journal/%04d", round)
		errs := make([]error, racers)
		start := make(chan struct{})
		var wg sync.WaitGroup
		for racer := range racers {
			wg.Go(func() {
				<-start
				errs[racer] = b.Create(t.Context(), name, racerData(racer))
			})
		}
		close(start)
		wg.Wait()

		winner := -1
		for racer, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = racer
			case err == nil:
				t.Errorf("%s: racers %d and %d both won", name, winner, racer)
			case !errors.Is(err, storage.ErrExists):
				t.Errorf("%s: racer %d: %v, want ErrExists", name, racer, err)
			}
		}
		if winner < 0 {
			t.Fatalf("%s: no racer won", name)
		}
		wantObject(t, b, name, string(racerData(winner)))
	}
	if got := list(t, b, "", ""); len(got) != raceRounds {
		t.Errorf("listed %d names after %d races: %v", len(got), raceRounds, got)
	}
}

// racerData is of another length for each racer, so that a mixture would show.
func racerData(racer int) []byte {
	return bytes.Repeat([]byte{byte('a' + racer)}, 1000+racer)
}

func testCreateDoesNotKeepData(t *testing.T, b storage.Bucket) {
	data := []byte("as it was")
	if err := b.Create(t.Context(), "a", data); err != nil {
		t.Fatal(err)
	}
	copy(data, "XXXXXXXXX")
	wantObject(t, b, "a", "as it was")
	copy(get(t, b, "a", 0, -1), "XXXXXXXXX")
	wantObject(t, b, "a", "as it was")
}

func testCreateAfterDelete(t *testing.T, b storage.Bucket) {
	create(t, b, "a", "old")
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	create(t, b, "a", "new")
	wantObject(t, b, "a", "new")
}

func testReadAfterWrite(t *testing.T, b storage.Bucket) {
	big := make([]byte, 1<<20+7)
	for i := range big {
		big[i] = byte(i * i >> 8)
	}
	for name, data := range map[string]string{
		"varve.json":           "{}",
		"empty":                "",
		"packs/ab/abcdef":      string(big),
		"a/b/c/d/e/f/g":        "deep",
		"a.b-c/0.x":            "dots and dashes",
		strings.Repeat("n", 9): "\x00\xff\n",
	} {
		create(t, b, name, data)
		wantObject(t, b, name, data)
	}
}

func testRanges(t *testing.T, b storage.Bucket) {
	const data = "0123456789"
	create(t, b, "r", data)
	for _, r := range []struct {
		why            string
		offset, length int64
		want           string
	}{
		{"all", 0, -1, data},
		{"all by length", 0, 10, data},
		{"start", 0, 3, "012"},
		{"middle", 4, 2, "45"},
		{"end", 7, 3, "789"},
		{"to the end", 7, -1, "789"},
		{"any negative length means to the end", 8, -99, "89"},
		{"over the end", 8, 100, "89"},
		{"over the end by far", 1, 1<<63 - 1, "123456789"},
		{"at the end", 10, 5, ""},
		{"at the end, to the end", 10, -1, ""},
		{"past the end", 11, 1, ""},
		{"past the end, to the end", 1 << 40, -1, ""},
		{"nothing", 3, 0, ""},
		{"nothing at the start", 0, 0, ""},
	} {
		if got := string(get(t, b, "r", r.offset, r.length)); got != r.want {
			t.Errorf("%s: Get(%d, %d) = %q, want %q", r.why, r.offset, r.length, got, r.want)
		}
	}
	create(t, b, "empty", "")
	if got := get(t, b, "empty", 0, 4); len(got) != 0 {
		t.Errorf("Get of an empty object = %q", got)
	}
	if _, err := b.Get(t.Context(), "r", -1, 1); !errors.Is(err, storage.ErrBadRange) {
		t.Errorf("Get from offset -1 = %v, want ErrBadRange", err)
	}
}

func testAbsentObjects(t *testing.T, b storage.Bucket) {
	create(t, b, "packs/ab/1", "x")
	for _, name := range []string{"absent", "absent/too", "packs/ab/2", "packs/ab/11", "packs/a"} {
		wantAbsent(t, b, name)
	}
	if _, err := b.Get(t.Context(), "absent", 5, 0); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of no bytes of an absent object = %v, want ErrNotFound", err)
	}
}

func testFoldersAreNoObjects(t *testing.T, b storage.Bucket) {
	create(t, b, "packs/ab/1", "x")
	wantAbsent(t, b, "packs")
	wantAbsent(t, b, "packs/ab")
	if err := b.Delete(t.Context(), "packs/ab/1"); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "packs/ab"); err != nil {
		t.Errorf("Delete of an empty folder = %v, want nil", err)
	}
	create(t, b, "packs/ab/1", "y")
	wantObject(t, b, "packs/ab/1", "y")
}

func testStat(t *testing.T, b storage.Bucket) {
	before := time.Now()
	create(t, b, "a/x", "12345")
	got, err := b.Stat(t.Context(), "a/x")
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "a/x" || got.Size != 5 {
		t.Errorf("Stat = %+v, want a/x of 5 bytes", got)
	}
	// Stores keep whole seconds and have a clock of their own; it is to be a time, not zero.
	if d := got.ModTime.Sub(before).Abs(); d > 10*time.Minute {
		t.Errorf("Stat says the object was created %v from now", d)
	}
	for info, err := range b.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if info.Name != got.Name || info.Size != got.Size || !info.ModTime.Equal(got.ModTime) {
			t.Errorf("List says %+v, Stat %+v", info, got)
		}
	}
}

func testList(t *testing.T, b storage.Bucket) {
	// In the order of bytes, in which '-' and '.' come before '/', and '0' after it.
	all := []string{
		"a-b", "a.b", "a/b", "a/b-c/d", "a/b.c", "a/bc/d", "a/c/1", "a/c/2", "a0", "journal/0", "journal/00", "journal/01",
		"journal/1", "k", "packs/ab/1", "packs/ab/2", "packs/b/1", "z",
	}
	// "a/b" is an object, so no name goes below it: such names are for no store.
	for _, i := range []int{7, 3, 17, 0, 12, 5, 9, 1, 15, 2, 11, 4, 6, 16, 8, 13, 10, 14} {
		create(t, b, all[i], "x")
	}
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/bc", "a/bc/", "a/c/", "journal/", "journal/0", "pa", "packs/ab/2", "q", "z"} {
		for _, after := range append([]string{"", "0", "a", "a/", "a/c", "a/c/", "a/c/1x", "packs/ab", "packs/ab/", "~"}, all...) {
			want := []string{}
			for _, name := range all {
				if strings.HasPrefix(name, prefix) && name > after {
					want = append(want, name)
				}
			}
			if diff := cmp.Diff(want, list(t, b, prefix, after)); diff != "" {
				t.Errorf("List(%q, %q): -want +got\n%s", prefix, after, diff)
			}
		}
	}
}

func testListManyNames(t *testing.T, b storage.Bucket) {
	const count = 2050 // three pages of the largest size that stores give
	want := make([]string, count)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < count; i += 8 {
				want[i] = fmt.Sprintf("packs/%02x/%06d", i/100, i)
				if err := b.Create(t.Context(), want[i], nil); err != nil {
					t.Errorf("Create: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(want, list(t, b, "", "")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff(want[1000:], list(t, b, "packs/", want[999])); diff != "" {
		t.Errorf("after %s: -want +got\n%s", want[999], diff)
	}
}

func testListNothing(t *testing.T, b storage.Bucket) {
	for _, prefix := range []string{"", "packs/", "packs/ab/", "p"} {
		if got := list(t, b, prefix, ""); len(got) != 0 {
			t.Errorf("List(%q) of an empty bucket = %v", prefix, got)
		}
	}
}

func testListStopsWhenAsked(t *testing.T, b storage.Bucket) {
	for _, name := range []string{"a/1", "a/2", "b/1", "c"} {
		create(t, b, name, "")
	}
	for stop := 1; stop <= 4; stop++ {
		n := 0
		for _, err := range b.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == stop {
				break // a driver that yields on panics
			}
		}
	}
}

func testDelete(t *testing.T, b storage.Bucket) {
	create(t, b, "a/1", "x")
	create(t, b, "a/2", "y")
	for range 2 {
		if err := b.Delete(t.Context(), "a/1"); err != nil {
			t.Fatalf("Delete: %v", err)
		}
		wantAbsent(t, b, "a/1")
	}
	if err := b.Delete(t.Context(), "never/was"); err != nil {
		t.Errorf("Delete of an absent object = %v, want nil", err)
	}
	if diff := cmp.Diff([]string{"a/2"}, list(t, b, "", "")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func testBadNames(t *testing.T, b storage.Bucket) {
	create(t, b, "a", "x")
	for _, name := range []string{"", ".", "..", "/a", "a/", "../a", "b/../a", "b//c", "A", ".tmp-1", "b/.hidden", "a\x00", "b c", strings.Repeat("n", 2000)} {
		_, getErr := b.Get(t.Context(), name, 0, -1)
		_, statErr := b.Stat(t.Context(), name)
		for method, err := range map[string]error{
			"Create": b.Create(t.Context(), name, nil),
			"Get":    getErr,
			"Stat":   statErr,
			"Delete": b.Delete(t.Context(), name),
		} {
			if !errors.Is(err, storage.ErrBadName) {
				t.Errorf("%s(%.20q) = %v, want ErrBadName", method, name, err)
			}
		}
	}
	for _, prefix := range []string{"/", "..", "../", ".tmp", "A", "a//"} {
		if err := listError(t.Context(), b, prefix); !errors.Is(err, storage.ErrBadName) {
			t.Errorf("List(%q) = %v, want ErrBadName", prefix, err)
		}
	}
	if diff := cmp.Diff([]string{"a"}, list(t, b, "", "")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func testCancelled(t *testing.T, b storage.Bucket) {
	create(t, b, "a", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := b.Get(ctx, "a", 0, -1)
	_, statErr := b.Stat(ctx, "a")
	for method, err := range map[string]error{
		"Create": b.Create(ctx, "b", []byte("x")),
		"Get":    getErr,
		"Stat":   statErr,
		"List":   listError(ctx, b, ""),
		"Delete": b.Delete(ctx, "a"),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context = %v, want context.Canceled", method, err)
		}
	}
	wantObject(t, b, "a", "x")
	wantAbsent(t, b, "b")
}

func testCancelledCreate(t *testing.T, b storage.Bucket) {
	data := string(bytes.Repeat([]byte("whole"), 200_000))
	for round := range 20 {
		name := fmt.Sprintf("c/%d", round)
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(round)*100*time.Microsecond)
		err := b.Create(ctx, name, []byte(data))
		cancel()
		got, getErr := b.Get(t.Context(), name, 0, -1)
		switch {
		case getErr == nil && string(got) != data:
			t.Errorf("Create answered %v and left %d of %d bytes", err, len(got), len(data))
		case err == nil && getErr != nil:
			t.Errorf("Create succeeded, then Get: %v", getErr)
		case getErr != nil && !errors.Is(getErr, storage.ErrNotFound):
			t.Errorf("Create answered %v, then Get: %v", err, getErr)
		}
	}
}

// testConcurrency lets creators, readers, listers and deleters work at once. A reader sees an object
// whole or not at all.
func testConcurrency(t *testing.T, b storage.Bucket) {
	const workers, each = 8, 25
	data := bytes.Repeat([]byte("d"), 10_000)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("w%d/x/%d", worker, i)
				if err := b.Create(t.Context(), name, data); err != nil {
					t.Errorf("Create: %v", err)
				}
				if i%2 == 1 {
					if err := b.Delete(t.Context(), name); err != nil {
						t.Errorf("Delete: %v", err)
					}
				}
			}
		})
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("w%d/x/%d", worker, i)
				if got, err := b.Get(t.Context(), name, 0, -1); err == nil && !bytes.Equal(got, data) {
					t.Errorf("Get(%s) gave %d of %d bytes", name, len(got), len(data))
				} else if err != nil && !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("Get: %v", err)
				}
			}
		})
	}
	for range 4 {
		wg.Go(func() {
			last := ""
			for info, err := range b.List(t.Context(), "", "") {
				if err != nil {
					t.Errorf("List: %v", err)
				} else if info.Name <= last || info.Size != int64(len(data)) {
					t.Errorf("List gave %s of %d bytes after %q", info.Name, info.Size, last)
				}
				last = info.Name
			}
		})
	}
	wg.Wait()
	if got, want := len(list(t, b, "", "")), workers*(each+1)/2; got != want {
		t.Errorf("%d objects are left, want %d", got, want)
	}
}

func testString(t *testing.T, b storage.Bucket) {
	if s := b.String(); !strings.Contains(s, "://") || s != b.String() {
		t.Errorf("String = %q, want a URL", s)
	}
}
