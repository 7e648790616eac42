package command

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/varve-dev/varve/kube/backup"
	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/storage/retry"
)

func TestProgressNamesWhatIsWaitedFor(t *testing.T) {
	s := standing{what: "restore", objects: 3, waiting: "namespace term is being deleted\x1b"}
	if got, want := s.line(time.Second), `restore 1s  3 objects  waiting: namespace term is being deleted\x1b`; got != want {
		t.Errorf("line = %s, want %s", got, want)
	}
}

func TestProgressGoesOnFromStageToStage(t *testing.T) {
	p := &progress{}
	tell := p.ofBackup()
	for _, step := range []struct {
		told backup.Progress
		want string
	}{
		{backup.Progress{Stage: "objects"}, "backup 10s"},
		{backup.Progress{Stage: "objects", Items: 1200, Bytes: 5 << 20, ExpectedBytes: 10 << 20, Written: repo.WriterStats{NewBytes: 1 << 20}},
			"backup 10s  1,200 objects  5.0 MiB of 10.0 MiB (50 %)  1.0 MiB new  512.0 KiB/s"},
		{backup.Progress{Stage: "volume", Volume: "a\nb", Read: 5 << 20}, `backup of volume "a\nb" 10s  1,200 objects  5.0 MiB  512.0 KiB/s`},
		{backup.Progress{Stage: "volume", Volume: "a\nb", Items: 1, Bytes: 15 << 20, Read: 15 << 20},
			`backup of volume "a\nb" 10s  1,200 objects  1 file  20.0 MiB  2.0 MiB/s`},
		{backup.Progress{Stage: "volume", Volume: "c", Items: 2, Bytes: 10 << 20},
			`backup of volume c 10s  1,200 objects  3 files  30.0 MiB  3.0 MiB/s`},
		{backup.Progress{Stage: "commit"}, `backup 10s  1,200 objects  3 files  30.0 MiB  3.0 MiB/s`},
	} {
		tell(step.told)
		if got := p.now.line(10 * time.Second); got != step.want {
			t.Errorf("line = %s\nwant   %s", got, step.want)
		}
	}
}

func TestProgressTellsForAWhileThatAStoreIsWaitedFor(t *testing.T) {
	p := &progress{started: time.Now().Add(-time.Minute)}
	p.hold(retry.Wait{Since: 45 * time.Second, Pause: 10 * time.Second})
	for elapsed, want := range map[time.Duration]string{
		65 * time.Second: " 1m5s  the store has not answered for 45.0s and is asked again",
		75 * time.Second: " 1m15s",
	} {
		if got := p.now.line(elapsed); got != want {
			t.Errorf("line = %q, want %q", got, want)
		}
	}
}

func TestAStoreThatIsWaitedForIsToldNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		a := &app{Process: Process{Stderr: out}, telling: new(atomic.Pointer[progress])}
		tell, began := a.waits(), time.Now()
		for time.Since(began) < 100*time.Second {
			tell(retry.Wait{Cause: errors.New("503 SlowDown"), Since: time.Since(began), Pause: time.Second})
			time.Sleep(time.Second)
		}
		told, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		for _, since := range []string{"4.0s", "34.0s", "1m04s", "1m34s"} {
			want += "varve: warning: the store has not answered for " + since + " and is asked again: 503 SlowDown\n"
		}
		if string(told) != want {
			t.Errorf("told:\n%swant:\n%s", told, want)
		}
	})
}
