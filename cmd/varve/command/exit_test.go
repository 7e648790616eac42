package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/snapshot"
)

func TestExitCodesTellWhatTheErrorIs(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
	}{
		{errors.New("anything"), 1},
		{repo.ErrNoRepository, 1},
		{repo.ErrExists, 1},
		{&kube.UnknownResourceError{Name: "x"}, 2},
		{usage("no"), 2},
		{snapshot.ErrNotFound, 2},
		{fmt.Errorf("%w among those that can be read: %w", snapshot.ErrNotFound, repo.ErrDamaged), 4},
		{repo.ErrWrongKey, 5},
		{repo.ErrFingerprint, 5},
		{storage.ErrNoBucket, 6},
		{kube.ErrUnreachable, 6},
		{kube.ErrForbidden, 6},
		{refused(&fs.PathError{Op: "open", Path: "varve.json", Err: fs.ErrPermission}), 6},
		{&fs.PathError{Op: "open", Path: "a volume", Err: fs.ErrPermission}, 1},
		{repo.ErrVersion, 7},
		{journal.ErrRolledBack, 7},
		{fmt.Errorf("%w: %w", journal.ErrUnsure, context.Canceled), 8},
		{failure{err: repo.ErrDamaged, code: exitIncomplete}, 3},
		{interrupted(repo.ErrDamaged), 130},
	} {
		if code, _ := explain(fmt.Errorf("while testing: %w", test.err)); code != test.code {
			t.Errorf("%v: exit code %d, want %d", test.err, code, test.code)
		}
	}
	if _, hint := explain(interrupted(failure{err: repo.ErrDamaged, hint: "look"})); hint != "look" {
		t.Errorf("an interrupt lost the hint: %q", hint)
	}
}

func TestReportedErrorCannotMoveTheCursor(t *testing.T) {
	for _, shape := range []format{asTable, asJSON} {
		path := filepath.Join(t.TempDir(), "stderr")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		a := &app{Process: Process{Stderr: f}, output: shape}
		if code := a.report(usage("file \x1b[2J\u009b")); code != exitUsage {
			t.Errorf("exit code %d", code)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want := "varve: file \\x1b[2J\\u009b\n"
		if shape == asJSON {
			var p problem
			if err := json.Unmarshal(text, &p); err != nil || p.Code != exitUsage || p.Message != "file \x1b[2J\u009b" {
				t.Errorf("%v: %s", err, text)
			}
			want = `{"code":2,"message":"file \u001b[2J\u009b"}` + "\n"
		}
		if string(text) != want {
			t.Errorf("reported %q, want %q", text, want)
		}
	}
}
