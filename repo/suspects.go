package repo

import (
	"errors"
	"sync"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// maxSuspects bounds how many bad copies a client remembers.
const maxSuspects = 1 << 16

// suspects are copies of blobs that this client could not read and that are not recorded as damaged. Its writers do
// not rely on them: a session whose source still has the blob stores it again. Others learn of them when a
// check or a repair has found them too; the zero blob stands for every blob of a pack that is not there.
type suspects struct {
	mu     sync.Mutex
	copies map[journal.Copy]struct{}
}

// note takes down how the reading of a copy ended. Bytes that were spoiled on their way are better when they are
// read again.
func (s *suspects) note(ref blob.Ref, pack uint32, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch single, whole := (journal.Copy{Blob: ref, Pack: pack}), (journal.Copy{Pack: pack}); {
	case err == nil:
		delete(s.copies, single)
		delete(s.copies, whole)
	case len(s.copies) >= maxSuspects || !isDamage(err):
	case errors.Is(err, storage.ErrNotFound):
		s.add(whole)
	default:
		s.add(single)
	}
}

func (s *suspects) add(c journal.Copy) {
	if s.copies == nil {
		s.copies = map[journal.Copy]struct{}{}
	}
	s.copies[c] = struct{}{}
}

func (s *suspects) has(ref blob.Ref, pack uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.copies) == 0 {
		return false
	}
	_, single := s.copies[journal.Copy{Blob: ref, Pack: pack}]
	_, whole := s.copies[journal.Copy{Pack: pack}]
	return single || whole
}
