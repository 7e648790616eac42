package backup

import (
	"sync"
	"time"

	"github.com/varve-dev/varve/repo"
)

// Progress is how far a run is.
type Progress struct {
	Stage  string // "objects", "volume" or "commit"
	Volume string // name of the volume
	Items  uint64 // objects or files of this stage so far
	Bytes  uint64 // of them, as they are in the source
	Read   uint64 // bytes of files read in this stage, also of files that are not done yet

	// What the parent had, as a guess at what is to come; zero without parent.
	ExpectedItems, ExpectedBytes uint64

	Written repo.WriterStats // of the whole run
}

// tellEvery is how often progress is told at most.
const tellEvery = 100 * time.Millisecond

// meter counts and tells. It is safe for concurrent use.
type meter struct {
	tell    func(Progress)
	written func() repo.WriterStats

	mutex sync.Mutex
	now   Progress
	last  time.Time
}

// stage begins a stage.
func (m *meter) stage(p Progress) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.now = p
	m.report(true)
}

// add counts items that are done.
func (m *meter) add(items, bytes uint64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.now.Items += items
	m.now.Bytes += bytes
	m.report(false)
}

// read counts bytes of a file that is being read.
func (m *meter) read(bytes uint64) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.now.Read += bytes
	m.report(false)
}

func (m *meter) report(always bool) {
	if m.tell == nil || !always && time.Since(m.last) < tellEvery {
		return
	}
	m.last = time.Now()
	m.now.Written = m.written()
	m.tell(m.now)
}
