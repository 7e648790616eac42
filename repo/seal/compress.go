package seal

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/varve-dev/varve/repo/blob"
)

// MaxBlob is the largest plaintext of a blob in bytes. A reader refuses to make room for more.
const MaxBlob = 16 << 20

// Codecs: how the payload of a sealed part is encoded. Their numbers are part of the format.
const (
	codecRaw  = 0
	codecZstd = 1
)

// encodedHeader is the size of what stands before the payload: codec (1 byte) and plain length (4
// bytes, little endian). It is sealed, so the length is authenticated before anything is decoded.
const encodedHeader = 1 + 4

// Small parts compress well at any speed and live long, so they get a better level; the bulk of the
// bytes is of class data.
var (
	fast    = sync.OnceValue(func() *zstd.Encoder { return newEncoder(zstd.SpeedDefault) })
	better  = sync.OnceValue(func() *zstd.Encoder { return newEncoder(zstd.SpeedBetterCompression) })
	decoder = sync.OnceValue(newDecoder)
)

// The coders are stateless between calls and safe for concurrent use.
func newEncoder(level zstd.EncoderLevel) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic("zstd refuses constant options: " + err.Error())
	}
	return e
}

func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(MaxBlob), zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		panic("zstd refuses constant options: " + err.Error())
	}
	return d
}

// encode compresses a part. What does not shrink by 3 % stays raw.
func encode(class blob.Class, plain []byte) []byte {
	out := make([]byte, encodedHeader, encodedHeader+len(plain))
	binary.LittleEndian.PutUint32(out[1:], uint32(len(plain)))
	encoder := better
	if class == blob.Data {
		encoder = fast
	}
	out[0] = codecZstd
	out = encoder().EncodeAll(plain, out)
	if len(out)-encodedHeader > len(plain)-len(plain)*3/100 || len(plain) == 0 {
		out = append(out[:encodedHeader], plain...)
		out[0] = codecRaw
	}
	return out
}

// decode undoes encode. It makes room for at most [MaxBlob] bytes.
func decode(encoded []byte) ([]byte, error) {
	if len(encoded) < encodedHeader {
		return nil, fmt.Errorf("decode: %d bytes are too few: %w", len(encoded), ErrOpen)
	}
	size := binary.LittleEndian.Uint32(encoded[1:])
	payload := encoded[encodedHeader:]
	if size > MaxBlob {
		return nil, fmt.Errorf("decode: length of %d bytes is more than %d: %w", size, MaxBlob, ErrOpen)
	}
	switch encoded[0] {
	case codecRaw:
		if uint32(len(payload)) != size {
			return nil, fmt.Errorf("decode: %d bytes instead of %d: %w", len(payload), size, ErrOpen)
		}
		return payload, nil
	case codecZstd:
		plain, err := decoder().DecodeAll(payload, make([]byte, 0, size))
		if err != nil || uint32(len(plain)) != size {
			return nil, fmt.Errorf("decode: payload does not give %d bytes: %w", size, ErrOpen)
		}
		return plain, nil
	}
	return nil, fmt.Errorf("decode: codec %d is unknown: %w", encoded[0], ErrOpen)
}
