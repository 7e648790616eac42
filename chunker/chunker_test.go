package chunker

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

var (
	testKey    = [32]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31}
	testParams = Params{Min: 1 << 10, Avg: 4 << 10, Max: 16 << 10}
)

// TestVector holds the format fixed: a repository written with other cuts would not share a chunk
// with what comes after. Never change the numbers; a new way of cutting is a new feature of the format.
func TestVector(t *testing.T) {
	for _, test := range []struct {
		params  Params
		size    int
		lengths []int
	}{
		{testParams, 100_000, vectorSmall},
		{Default(), 1_000_000, vectorDefault},
	} {
		got := lengths(t, testKey, test.params, bytes.NewReader(splitMix(test.size)))
		if diff := cmp.Diff(test.lengths, got); diff != "" {
			t.Errorf("%+v: -want +got\n%s", test.params, diff)
		}
	}
	gear, err := newGear(testKey)
	if err != nil {
		t.Fatal(err)
	}
	if first, last := gear[0], gear[255]; first != vectorGear[0] || last != vectorGear[1] {
		t.Errorf("gear table from %#x to %#x, want %#x", first, last, vectorGear)
	}
}

// TestCutsFollowTheRule compares with the rule of the package comment played without any shortcut: the
// hash runs over the whole stream, and every position is looked at.
func TestCutsFollowTheRule(t *testing.T) {
	data := splitMix(3 << 20)
	gear, err := newGear(testKey)
	if err != nil {
		t.Fatal(err)
	}
	hashes, h := make([]uint64, len(data)), uint64(0)
	for i, b := range data {
		h = 2*h + gear[b]
		hashes[i] = h
	}
	for _, p := range []Params{testParams, {256, 256, 512}, {256, 300, 300}, {300, 1000, 5000}} {
		var want []int
		for start := 0; start < len(data); {
			n := p.Min
			for ; n < p.Max && start+n < len(data); n++ {
				limit := math.MaxUint64 / (4 * uint64(p.Avg))
				if n > p.Avg {
					limit = math.MaxUint64 / uint64(p.Avg) * 4
				}
				if hashes[start+n-1] < limit {
					break
				}
			}
			n = min(n, len(data)-start)
			want = append(want, n)
			start += n
		}
		if got := lengths(t, testKey, p, bytes.NewReader(data)); !slices.Equal(want, got) {
			t.Errorf("%+v: cuts are not those of the rule", p)
		}
	}
}

func TestChunksAreTheStream(t *testing.T) {
	noise := splitMix(300_000)
	for name, data := range map[string][]byte{
		"empty":            {},
		"one byte":         {7},
		"below minimum":    noise[:testParams.Min-1],
		"minimum":          noise[:testParams.Min],
		"above minimum":    noise[:testParams.Min+1],
		"average":          noise[:testParams.Avg],
		"maximum":          noise[:testParams.Max],
		"noise":            noise,
		"zeros":            make([]byte, 100_000),
		"multiple of zero": make([]byte, 8*testParams.Max),
		"repeated":         bytes.Repeat([]byte("the same line again\n"), 10_000),
	} {
		want := chunks(t, testKey, testParams, bytes.NewReader(data))
		checkChunks(t, name, data, want, testParams)
		for how, r := range map[string]io.Reader{
			"one byte at a time": iotest.OneByteReader(bytes.NewReader(data)),
			"half reads":         iotest.HalfReader(bytes.NewReader(data)),
			"end with the data":  iotest.DataErrReader(bytes.NewReader(data)),
			"random reads":       &raggedReader{bytes.NewReader(data), rand.New(rand.NewPCG(1, 2))},
		} {
			if got := chunks(t, testKey, testParams, r); !equal(want, got) {
				t.Errorf("%s: cuts differ with %s", name, how)
			}
		}
	}
}

func TestCutsDoNotMoveWithInsertions(t *testing.T) {
	data := splitMix(2 << 20)
	known := map[[32]byte]bool{}
	for _, chunk := range chunks(t, testKey, testParams, bytes.NewReader(data)) {
		known[sha256.Sum256(chunk)] = true
	}
	rng := rand.New(rand.NewPCG(3, 4))
	fresh := 0
	const edits = 50
	for range edits {
		at := rng.IntN(len(data))
		edited := append(append(bytes.Clone(data[:at]), byte(rng.Uint32())), data[at:]...)
		for _, chunk := range chunks(t, testKey, testParams, bytes.NewReader(edited)) {
			if !known[sha256.Sum256(chunk)] {
				fresh++
			}
		}
	}
	// The chunk around the byte, and now and then the one or two behind it.
	if mean := float64(fresh) / edits; mean > 2 {
		t.Errorf("an inserted byte changes %.1f of %d chunks, want 2 at most", mean, len(known))
	}
}

func TestKeysCutDifferently(t *testing.T) {
	data := splitMix(4 << 20)
	cuts := func(key [32]byte) map[int]bool {
		at, cuts := 0, map[int]bool{}
		for _, n := range lengths(t, key, testParams, bytes.NewReader(data)) {
			at += n
			cuts[at] = true
		}
		return cuts
	}
	one := cuts(testKey)
	other := testKey
	other[31] ^= 1
	shared := 0
	for cut := range cuts(other) {
		if one[cut] {
			shared++
		}
	}
	// The end of the stream is one; by chance there is a fraction of another.
	if shared > 5 {
		t.Errorf("two keys share %d of %d cuts", shared, len(one))
	}
}

func TestLengthsAreNearAverage(t *testing.T) {
	for _, test := range []struct {
		params Params
		size   int
	}{{testParams, 16 << 20}, {Default(), 64 << 20}, {Params{Min: 3000, Avg: 12_345, Max: 50_000}, 16 << 20}} {
		data := make([]byte, test.size)
		if _, err := rand.NewChaCha8([32]byte{}).Read(data); err != nil {
			t.Fatal(err)
		}
		got := lengths(t, testKey, test.params, bytes.NewReader(data))
		mean, atMax := float64(test.size)/float64(len(got)), 0
		for _, n := range got {
			if n == test.params.Max {
				atMax++
			}
		}
		if ratio := mean / float64(test.params.Avg); ratio < 1.05 || ratio > 1.23 {
			t.Errorf("%+v: mean length is %.3f of the average, want about 1.14", test.params, ratio)
		}
		if atMax > len(got)/100 {
			t.Errorf("%+v: %d of %d chunks were cut by their length alone", test.params, atMax, len(got))
		}
	}
}

// TestErrorOfReader breaks the stream off at many places: every chunk that is certain comes first,
// then the error, again and again, and never what was left over.
func TestErrorOfReader(t *testing.T) {
	broken := errors.New("broken")
	data := splitMix(100_000)
	whole := chunks(t, testKey, testParams, bytes.NewReader(data))
	for at := 0; at < len(data); at += 777 {
		var want [][]byte
		for end, rest := 0, whole; len(rest) > 0 && end+len(rest[0]) <= at; rest = rest[1:] {
			end += len(rest[0])
			want = append(want, rest[0])
		}
		for how, r := range map[string]io.Reader{
			"after the data": io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(broken)),
			"with the data":  &errorWithData{data[:at], broken},
		} {
			c := newChunker(t, testKey, testParams, r)
			var got [][]byte
			var err error
			for err == nil {
				var chunk []byte
				if chunk, err = c.Next(); err == nil {
					got = append(got, bytes.Clone(chunk))
				} else if chunk != nil {
					t.Errorf("%d bytes beside the error", len(chunk))
				}
			}
			if err != broken || !equal(want, got) {
				t.Errorf("error %s at %d: %d chunks, then %v; want %d, then %v", how, at, len(got), err, len(want), broken)
			}
			if _, err := c.Next(); err != broken {
				t.Errorf("after the error Next = %v", err)
			}
		}
	}
}

func TestReaderWithoutProgress(t *testing.T) {
	c := newChunker(t, testKey, testParams, readerFunc(func([]byte) (int, error) { return 0, nil }))
	if _, err := c.Next(); err != io.ErrNoProgress {
		t.Errorf("Next = %v, want io.ErrNoProgress", err)
	}
}

func TestEndIsRepeated(t *testing.T) {
	c := newChunker(t, testKey, testParams, bytes.NewReader([]byte("x")))
	if chunk, err := c.Next(); string(chunk) != "x" || err != nil {
		t.Errorf("Next = %q, %v", chunk, err)
	}
	for range 2 {
		if chunk, err := c.Next(); chunk != nil || err != io.EOF {
			t.Errorf("Next at the end = %q, %v, want io.EOF", chunk, err)
		}
	}
}

func TestCallerMayChangeChunks(t *testing.T) {
	data := splitMix(200_000)
	want := chunks(t, testKey, testParams, bytes.NewReader(data))
	c := newChunker(t, testKey, testParams, bytes.NewReader(data))
	var got [][]byte
	for {
		chunk, err := c.Next()
		if err == io.EOF {
			break
		}
		got = append(got, bytes.Clone(chunk))
		clear(chunk)
		_ = append(chunk, 1, 2, 3)
	}
	if !equal(want, got) {
		t.Error("chunks differ when those before them are written to")
	}
}

func TestResetBeginsAnew(t *testing.T) {
	data := splitMix(200_000)
	want := chunks(t, testKey, testParams, bytes.NewReader(data))
	c := newChunker(t, testKey, testParams, io.MultiReader(bytes.NewReader(data[5:40_000]), iotest.ErrReader(errors.New("broken"))))
	for range 3 {
		if _, err := c.Next(); err != nil {
			t.Fatal(err)
		}
	}
	c.Reset(bytes.NewReader(data))
	if got := drain(t, c); !equal(want, got) {
		t.Error("cuts differ after a Reset")
	}
}

func TestFixed(t *testing.T) {
	const size = 4096
	data := splitMix(10*size + 5)
	c, err := NewFixed(iotest.HalfReader(bytes.NewReader(data)), size)
	if err != nil {
		t.Fatal(err)
	}
	got := drain(t, c)
	checkChunks(t, "fixed", data, got, Params{Min: size, Avg: size, Max: size})
	if len(got) != 11 {
		t.Errorf("%d pieces, want 11", len(got))
	}
	c.Reset(bytes.NewReader(data[:2*size]))
	if got := drain(t, c); len(got) != 2 {
		t.Errorf("%d pieces of a stream of two, want 2", len(got))
	}
	for _, size := range []int{-1, 0, 1, minSize - 1, maxSize + 1} {
		if _, err := NewFixed(bytes.NewReader(data), size); !errors.Is(err, ErrBadParams) {
			t.Errorf("NewFixed(%d) = %v, want ErrBadParams", size, err)
		}
	}
}

func TestParamsAreBounded(t *testing.T) {
	for _, p := range []Params{Default(), testParams, {minSize, minSize, minSize}, {minSize, 1 << 20, maxSize}, {maxSize, maxSize, maxSize}} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	const huge = 10 << 30
	for _, p := range []Params{
		{}, {1, 1, 1}, {0, 64 << 10, 256 << 10}, {-5, 64 << 10, 256 << 10}, {minSize - 1, 1024, 4096}, {2048, 1024, 4096},
		{1024, 4096, 2048}, {1024, 4096, huge}, {huge, huge, huge}, {1024, huge, 4096}, {1024, 4096, maxSize + 1},
	} {
		if err := p.Validate(); !errors.Is(err, ErrBadParams) {
			t.Errorf("%+v: %v, want ErrBadParams", p, err)
		}
		if _, err := New(nil, testKey, p); !errors.Is(err, ErrBadParams) {
			t.Errorf("New with %+v = %v, want ErrBadParams", p, err)
		}
	}
}

func TestNextDoesNotAllocate(t *testing.T) {
	data := splitMix(1 << 20)
	r := bytes.NewReader(data)
	c := newChunker(t, testKey, testParams, r)
	if allocs := testing.AllocsPerRun(5, func() {
		r.Reset(data)
		c.Reset(r)
		for {
			if _, err := c.Next(); err != nil {
				return
			}
		}
	}); allocs != 0 {
		t.Errorf("%v allocations per MiB, want 0", allocs)
	}
}

func FuzzChunker(f *testing.F) {
	f.Add([]byte("short"), uint64(1))
	f.Add(splitMix(5000), uint64(2))
	f.Add(make([]byte, 3000), uint64(3))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		p := Params{Min: minSize, Avg: 512, Max: 1024}
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], seed)
		want := chunks(t, key, p, bytes.NewReader(data))
		checkChunks(t, "fuzz", data, want, p)
		got := chunks(t, key, p, &raggedReader{bytes.NewReader(data), rand.New(rand.NewPCG(seed, 0))})
		if !equal(want, got) {
			t.Error("cuts depend on the sizes of reads")
		}
	})
}

func BenchmarkNext(b *testing.B) {
	data := make([]byte, 64<<20)
	if _, err := rand.NewChaCha8([32]byte{}).Read(data); err != nil {
		b.Fatal(err)
	}
	r := bytes.NewReader(data)
	c := newChunker(b, testKey, Default(), r)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(data)
		c.Reset(r)
		for {
			if _, err := c.Next(); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
}

func newChunker(t testing.TB, key [32]byte, p Params, r io.Reader) *Chunker {
	t.Helper()
	c, err := New(r, key, p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func chunks(t *testing.T, key [32]byte, p Params, r io.Reader) [][]byte {
	t.Helper()
	return drain(t, newChunker(t, key, p, r))
}

func lengths(t *testing.T, key [32]byte, p Params, r io.Reader) []int {
	t.Helper()
	var lengths []int
	for _, chunk := range chunks(t, key, p, r) {
		lengths = append(lengths, len(chunk))
	}
	return lengths
}

func drain(t *testing.T, c *Chunker) [][]byte {
	t.Helper()
	var chunks [][]byte
	for {
		chunk, err := c.Next()
		if err == io.EOF {
			return chunks
		}
		if err != nil {
			t.Fatal(err)
		}
		chunks = append(chunks, bytes.Clone(chunk))
	}
}

func equal(x, y [][]byte) bool { return slices.EqualFunc(x, y, bytes.Equal) }

// checkChunks checks what holds for every content.
func checkChunks(t *testing.T, name string, data []byte, chunks [][]byte, p Params) {
	t.Helper()
	if !bytes.Equal(bytes.Join(chunks, nil), data) {
		t.Errorf("%s: the chunks are not the stream", name)
	}
	for i, chunk := range chunks {
		if n := len(chunk); n == 0 || n > p.Max || n < p.Min && i < len(chunks)-1 {
			t.Errorf("%s: chunk %d of %d is %d bytes long", name, i, len(chunks), n)
		}
	}
}

// splitMix returns n bytes of the SplitMix64 sequence from seed 0, little-endian, which is easy to
// make anywhere.
func splitMix(n int) []byte {
	data := make([]byte, 0, n+8)
	for state := uint64(0); len(data) < n; {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		data = binary.LittleEndian.AppendUint64(data, z^z>>31)
	}
	return data[:n]
}

// raggedReader gives reads of random lengths, empty ones too.
type raggedReader struct {
	r   io.Reader
	rng *rand.Rand
}

func (r *raggedReader) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), r.rng.IntN(3000))])
}

// errorWithData gives all its data and its error in one read, if the buffer is large enough.
type errorWithData struct {
	data []byte
	err  error
}

func (r *errorWithData) Read(p []byte) (int, error) {
	n := copy(p, r.data)
	if r.data = r.data[n:]; len(r.data) > 0 {
		return n, nil
	}
	return n, r.err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
