package journal

import (
	"flag"
	"fmt"
	"testing"

	"github.com/varve-dev/varve/repo/formattest"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage/mem"
)

var update = flag.Bool("update", false, "write the vectors in testdata anew")

// Entries with every operation, a state and its checkpoint are stored as they were when the format was
// written down: sealing adds nothing that is random.
func TestVectorsStay(t *testing.T) {
	v := new(formattest.Vectors)
	for i, e := range fullEntries() {
		ops, err := encoding.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		stored, err := encode(testKeys(), &e, []byte("an inline pack"))
		if err != nil {
			t.Fatal(err)
		}
		v.Add(fmt.Sprintf("operations %d", i), ops)
		v.Add(fmt.Sprintf("entry %d", i), stored)
		back, err := open(testKeys(), e.Seq, stored)
		if err != nil {
			t.Fatal(err)
		}
		v.Say(fmt.Sprintf("chain %d", i), back.Hash.String())
	}
	state, err := metState().Encode()
	if err != nil {
		t.Fatal(err)
	}
	v.Add("state", state)
	b := mem.New()
	vouched, err := WriteCheckpoint(ctx, b, testKeys(), metState())
	if err != nil {
		t.Fatal(err)
	}
	checkpoint, err := b.Get(ctx, CheckpointName(vouched.Next), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	v.Add("checkpoint", checkpoint)
	v.Say("name of an entry", Name(0x1234))
	v.Say("name of a checkpoint", CheckpointName(0x1234))
	v.Say("name of a pack", PackName(seal.HashOf([]byte("pack"))))
	v.Say("name of a segment", SegmentName(seal.HashOf([]byte("segment"))))
	v.Stay(t, "testdata/v0-journal.txt", *update)
}
