package meter

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

func TestStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return New(mem.New()) })
}

func TestCounts(t *testing.T) {
	b := New(mem.New())
	for range 2 {
		if err := b.Create(t.Context(), "a", []byte("12345")); err != nil && !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := b.Get(t.Context(), "a", 1, 3); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Get(t.Context(), "absent", 0, -1); !errors.Is(err, storage.ErrNotFound) {
		t.Fatal(err)
	}
	early := b.Counts()
	want := Counts{Create: 2, Get: 4, BytesUp: 10, BytesDown: 9}
	if diff := cmp.Diff(want, early); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for range 5 {
		if _, err := b.Stat(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	for range 6 {
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	want = Counts{Stat: 5, Delete: 6}
	if diff := cmp.Diff(want, b.Counts().Sub(early)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := b.Counts().Requests(); got != 17 {
		t.Errorf("Requests = %d, want 17", got)
	}
}

func TestListCountsPages(t *testing.T) {
	b := New(mem.New())
	made := 0
	for _, test := range []struct {
		names, read int
		pages       int64
	}{
		{0, 0, 1}, {1, 1, 1}, {1000, 1000, 1}, {1001, 1001, 2}, {2001, 2001, 3}, {2001, 1000, 1}, {2001, 1001, 2},
	} {
		for ; made < test.names; made++ {
			if err := b.Create(t.Context(), fmt.Sprintf("%06d", made), nil); err != nil {
				t.Fatal(err)
			}
		}
		before, read := b.Counts(), 0
		for _, err := range b.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if read++; read == test.read {
				break
			}
		}
		if got := b.Counts().Sub(before).List; got != test.pages {
			t.Errorf("%d of %d names: %d pages, want %d", test.read, test.names, got, test.pages)
		}
	}
}
