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
	"github.com/varve-dev/varve/kube/restore"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
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
		{fmt.Errorf("%w: %w", repo.ErrWrongKey, repo.ErrPlanted), 5},
		{repo.ErrNoSlots, 6},
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

func TestOnlyARestoreThatChangedSomethingBrokeOff(t *testing.T) {
	broken := errors.New("no more")
	for name, test := range map[string]struct {
		report restore.Report
		err    error
		code   int
	}{
		"nothing yet":      {restore.Report{Volumes: []restore.VolumeResult{{}}}, broken, 1},
		"a folder":         {restore.Report{Volumes: []restore.VolumeResult{{Files: files.RestoreReport{Directories: 1}}}}, broken, 8},
		"only unchanged":   {restore.Report{Outcomes: []restore.Outcome{{Result: restore.Unchanged}}}, broken, 1},
		"an object":        {restore.Report{Outcomes: []restore.Outcome{{Result: restore.Created}}}, broken, 8},
		"a code of theirs": {restore.Report{Outcomes: []restore.Outcome{{Result: restore.Created}}}, kube.ErrUnreachable, 6},
	} {
		if code, _ := explain(brokenOff(t.Context(), test.report, test.err)); code != test.code {
			t.Errorf("%s: exit code %d, want %d", name, code, test.code)
		}
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
