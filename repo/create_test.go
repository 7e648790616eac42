package repo

import (
	"context"
	"errors"
	"testing"

	"github.com/varve-dev/varve/repo/storage/mem"
	"github.com/varve-dev/varve/repo/storage/probe"
)

// overwriting is a store that takes every create for an update.
type overwriting struct{ *mem.Bucket }

func (b overwriting) Create(_ context.Context, name string, data []byte) error {
	return b.Put(name, data)
}

func TestInitRefusesAStoreThatDoesNotDecideBetweenWriters(t *testing.T) {
	b := overwriting{mem.New()}
	options := InitOptions{Password: password, PasswordWork: 1}
	if _, err := Init(t.Context(), b, options); !errors.Is(err, probe.ErrUnfit) {
		t.Errorf("Init = %v, want ErrUnfit", err)
	}
	if left := names(t, b); len(left) > 0 {
		t.Errorf("a refused Init left %v", left)
	}
	options.SingleWriter = true
	if _, err := Init(t.Context(), b, options); err != nil {
		t.Errorf("with a single writer: %v", err)
	}
	backup(t, reopen(t, b, ""), noise(1, 1000))
}

// undeletable is a store in which nobody may delete.
type undeletable struct{ *mem.Bucket }

func (undeletable) Delete(context.Context, string) error { return errors.New("403 Forbidden") }

// Objects of probes that could not be removed are in nobody's way: not in that of a new repository, nor of a check
// or a prune.
func TestWhatAProbeHasLeftDoesNoHarm(t *testing.T) {
	b := mem.New()
	if _, err := probe.Run(t.Context(), undeletable{b}, probe.Options{Quick: true}); err != nil {
		t.Fatal(err)
	}
	before := names(t, b)
	if len(before) == 0 {
		t.Fatal("the probe has left nothing")
	}
	if _, err := Init(t.Context(), undeletable{b}, InitOptions{Password: password, PasswordWork: 1}); err != nil {
		t.Fatal(err)
	}
	r := reopen(t, b, "")
	backup(t, r, noise(1, 1000))
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true})
	if err != nil || len(report.Findings) > 0 || report.Orphans > 0 {
		t.Errorf("Check = %+v, %v", report, err)
	}
	prune(t, r, atOnce)
	after := names(t, b)
	for name := range before {
		if _, there := after[name]; !there {
			t.Errorf("%s is gone, which is none of a prune's business", name)
		}
	}
	backup(t, reopen(t, b, ""), noise(2, 1000))
}
