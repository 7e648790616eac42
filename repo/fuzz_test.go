package repo

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

// varve.json is plain, so anyone may have written it. What is accepted means the same when it is written
// again.
func FuzzHeader(f *testing.F) {
	raw, err := openKept(f, "v0-plain").bucket.Get(f.Context(), headerName, 0, -1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"format":"varve","version":0,"repository":"00112233445566778899aabbccddeeff","features":["x"]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		formattest.Bounded(t, 100*len(raw), func() {
			h, err := parseHeader(raw)
			if err != nil {
				return
			}
			again, err := json.Marshal(headerFile{Header: h, Repository: h.Repository.String()})
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseHeader(again)
			if diff := cmp.Diff(h, back); err != nil || diff != "" {
				t.Errorf("it changes when it is written again: %v (-read +again):\n%s", err, diff)
			}
		})
	})
}

// What an index segment's object seals may come from a writer that means harm.
func FuzzSegmentObject(f *testing.F) {
	keys := seal.Derive(seal.Master{1}, seal.RepositoryID{2})
	sealed := sealSegment(keys, []byte("a segment"))
	f.Add(sealed)
	f.Add(sealed[:labelSize])
	plain, err := openSegment(keys, sealed)
	if err != nil || string(plain) != "a segment" {
		f.Fatalf("%q, %v", plain, err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		formattest.Bounded(t, 10*len(data), func() {
			if got, err := openSegment(keys, data); err == nil && !bytes.Equal(got, plain) {
				t.Errorf("it opens to %q", got)
			}
			if got, err := openSegment(keys, sealSegment(keys, data)); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%q comes back as %q, %v", data, got, err)
			}
		})
	})
}

// edit is one change to a bucket, as the fuzzer writes it: what (1) │ object (1) │ at (2) │ more (1).
const edit = 5

// edited applies edits to a copy of a bucket. Bytes behind the edits are what some of them put there.
func edited(b *mem.Bucket, objects []string, script []byte) (*mem.Bucket, error) {
	ctx := context.Background()
	torn := b.Clone()
	for ; len(script) >= edit; script = script[edit:] {
		name, other := objects[int(script[1])%len(objects)], objects[int(script[4])%len(objects)]
		at, more := int(binary.LittleEndian.Uint16(script[2:])), script[4]
		data, err := torn.Get(ctx, name, 0, -1)
		if err != nil && script[0]%8 != 4 {
			continue // it was deleted
		}
		switch script[0] % 8 {
		case 0:
			if len(data) > 0 {
				data[at%len(data)] ^= more
			}
		case 1:
			data = data[:at%(len(data)+1)]
		case 2:
			data = append(data, bytes.Repeat([]byte{more}, at)...)
		case 3:
			if err := torn.Delete(ctx, name); err != nil {
				return nil, err
			}
			continue
		case 4: // back as it was
			if data, err = b.Get(ctx, name, 0, -1); err != nil {
				return nil, err
			}
		case 5: // in the place of another
			name = other
		case 6: // as the entry, or checkpoint, that comes at some time
			name = fmt.Sprintf("%s%016x", []string{journal.Folder, journal.CheckpointFolder}[at%2], uint64(more)<<(at%56))
		case 7: // by what the fuzzer likes
			data = slices.Concat(data[:at%(len(data)+1)], script[edit:])
		}
		if err := torn.Put(name, data); err != nil {
			return nil, err
		}
	}
	return torn, nil
}

// However many objects of a bucket are changed, in whatever ways: opening, checking and reading it end, take
// bounded memory, and give the bytes that were written or an error.
func FuzzOpenRepository(f *testing.F) {
	base := openKept(f, "v0-worked")
	objects := slices.Sorted(maps.Keys(names(f, base.bucket)))
	whole := map[string]string{} // what every blob holds
	for line := range bytes.Lines([]byte(base.says)) {
		if words := bytes.Fields(line); len(words) == 3 {
			whole[string(words[1])] = string(words[2])
		}
	}
	f.Add([]byte{})
	f.Add([]byte{0, 3, 20, 0, 1})
	f.Add([]byte{3, 7, 0, 0, 0, 1, 9, 40, 0, 0, 2, 12, 255, 3, 0})
	f.Add([]byte{5, 20, 0, 0, 21, 6, 20, 1, 0, 255})
	f.Add([]byte("\x07\x00\x00\x00\x00{\"format\":\"varve\",\"version\":0}"))
	f.Fuzz(func(t *testing.T, script []byte) {
		torn, err := edited(base.bucket, objects, script[:min(len(script), 100*edit)])
		if err != nil {
			t.Fatal(err)
		}
		formattest.Bounded(t, 64<<20, func() { // 46 objects of 70 KB in all, folded and read three times
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := Open(ctx, torn, OpenOptions{Password: password})
			if err != nil {
				return
			}
			if _, err := r.Check(ctx, CheckOptions{ReadData: true}); errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			for line := range bytes.Lines([]byte(describe(t, r))) {
				if words := bytes.Fields(line); len(words) == 3 && string(words[2]) != "damaged" && whole[string(words[1])] != string(words[2]) {
					t.Errorf("%s reads as %s, want %s", words[1], words[2], whole[string(words[1])])
				}
			}
		})
	})
}
