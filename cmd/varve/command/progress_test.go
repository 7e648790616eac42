package command

import (
	"testing"
	"time"

	"github.com/varve-dev/varve/kube/backup"
	"github.com/varve-dev/varve/repo"
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
