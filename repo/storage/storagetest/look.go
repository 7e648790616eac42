package storagetest

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/varve-dev/varve/repo/storage"
)

func create(t *testing.T, b storage.Bucket, name, data string) {
	t.Helper()
	if err := b.Create(t.Context(), name, []byte(data)); err != nil {
		t.Fatalf("Create(%s): %v", name, err)
	}
}

func get(t *testing.T, b storage.Bucket, name string, offset, length int64) []byte {
	t.Helper()
	data, err := b.Get(t.Context(), name, offset, length)
	if err != nil {
		t.Fatalf("Get(%s, %d, %d): %v", name, offset, length, err)
	}
	return data
}

// wantObject checks an object by all ways of looking at it.
func wantObject(t *testing.T, b storage.Bucket, name, want string) {
	t.Helper()
	if got := get(t, b, name, 0, -1); string(got) != want {
		t.Errorf("Get(%s) gave %d bytes %.40q, want %d bytes %.40q", name, len(got), got, len(want), want)
	}
	info, err := b.Stat(t.Context(), name)
	if err != nil || info.Name != name || info.Size != int64(len(want)) {
		t.Errorf("Stat(%s) = %+v, %v, want %d bytes", name, info, err, len(want))
	}
	if !slices.Contains(list(t, b, name, ""), name) {
		t.Errorf("%s is not listed", name)
	}
}

func wantAbsent(t *testing.T, b storage.Bucket, name string) {
	t.Helper()
	if _, err := b.Get(t.Context(), name, 0, -1); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get(%s) = %v, want ErrNotFound", name, err)
	}
	if _, err := b.Stat(t.Context(), name); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Stat(%s) = %v, want ErrNotFound", name, err)
	}
	if slices.Contains(list(t, b, name, ""), name) {
		t.Errorf("%s is listed", name)
	}
}

func list(t *testing.T, b storage.Bucket, prefix, startAfter string) []string {
	t.Helper()
	names := []string{}
	for info, err := range b.List(t.Context(), prefix, startAfter) {
		if err != nil {
			t.Fatalf("List(%q, %q): %v", prefix, startAfter, err)
		}
		names = append(names, info.Name)
	}
	return names
}

func listError(ctx context.Context, b storage.Bucket, prefix string) error {
	for _, err := range b.List(ctx, prefix, "") {
		if err != nil {
			return err
		}
	}
	return nil
}
