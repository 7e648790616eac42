package repo

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
)

// Subset says which packs a check reads. Its zero value is all of them. A share takes those first that
// were verified least recently, as far as the local cache remembers, so that the next runs come to the
// others; a part is the same packs in every run and on every machine.
type Subset struct {
	Share    float64 // of the stored bytes, above 0 and up to 1; at least one pack
	Part, Of int     // part number Part, from 1 on, of Of parts of about equal size
}

// ParseSubset reads a share, "5%" or "0.5%", or a part, "2/30".
func ParseSubset(text string) (s Subset, err error) {
	refused := fmt.Errorf("%q is neither a share of the stored bytes, such as 5%%, nor a part, such as 2/30", text)
	if share, isShare := strings.CutSuffix(text, "%"); isShare {
		percent, err := strconv.ParseFloat(share, 64)
		if err != nil || !(percent > 0 && percent <= 100) {
			return s, refused
		}
		return Subset{Share: percent / 100}, nil
	}
	part, of, _ := strings.Cut(text, "/")
	var failed [2]error
	s.Part, failed[0] = strconv.Atoi(part)
	s.Of, failed[1] = strconv.Atoi(of)
	if failed != [2]error{} || s.Part < 1 || s.Part > s.Of {
		return Subset{}, refused
	}
	return s, nil
}

// choose returns the numbers of the packs to read, in the order in which to read them, and their bytes.
func (s Subset) choose(state *journal.State, verified map[blob.Hash]time.Time) (chosen []uint32, total int64) {
	stored := int64(0)
	for i, p := range state.Packs {
		if p.Status == journal.DroppedPack || state.IsDamaged(journal.Copy{Pack: uint32(i)}) {
			continue
		}
		if s.Of == 0 || binary.BigEndian.Uint64(p.Name[:])%uint64(s.Of) == uint64(s.Part-1) {
			chosen = append(chosen, uint32(i))
			stored += p.Size
		}
	}
	if s.Share == 0 {
		return chosen, stored
	}
	slices.SortStableFunc(chosen, func(a, b uint32) int {
		return cmp.Compare(verified[state.Packs[a].Name].UnixMilli(), verified[state.Packs[b].Name].UnixMilli())
	})
	for i, number := range chosen {
		if float64(total) >= s.Share*float64(stored) {
			return chosen[:i], total
		}
		total += state.Packs[number].Size
	}
	return chosen, total
}
