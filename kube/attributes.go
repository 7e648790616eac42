package kube

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// Attributes are what a snapshot's map says of an object beside its contents: enough to know, without
// reading them, that the object has not changed since.
//
//	flags    1 byte: 1 the uid is a UUID, 2 the resourceVersion is a number
//	uid      16 bytes, or length and text
//	revision uvarint, or length and text
//	version  length and text
//
// Lengths are uvarints. The short forms stand wherever they can, so equal attributes are equal bytes.
type Attributes struct {
	UID             string // metadata.uid
	ResourceVersion string // metadata.resourceVersion, which changes whenever the object does
	Version         string // of the API, without its group: the form in which the object was read
}

const (
	uuidFlag   = 1
	numberFlag = 2

	maxAttribute = 1 << 10 // no API server writes longer ones
)

// ErrAttributes means that bytes are not the attributes of an object.
var ErrAttributes = errors.New("not the attributes of an object")

// Encode returns the bytes of the attributes.
func (a Attributes) Encode() []byte {
	b := []byte{0}
	if raw, ok := parseUUID(a.UID); ok {
		b[0] |= uuidFlag
		b = append(b, raw[:]...)
	} else {
		b = appendText(b, a.UID)
	}
	if n, ok := parseNumber(a.ResourceVersion); ok {
		b[0] |= numberFlag
		b = binary.AppendUvarint(b, n)
	} else {
		b = appendText(b, a.ResourceVersion)
	}
	return appendText(b, a.Version)
}

// ParseAttributes reads what [Attributes.Encode] wrote, and nothing else.
func ParseAttributes(b []byte) (Attributes, error) {
	var a Attributes
	r := attributeReader{rest: b}
	flags := r.take(1)
	if r.failed || flags[0] > uuidFlag|numberFlag {
		return Attributes{}, ErrAttributes
	}
	if flags[0]&uuidFlag != 0 {
		a.UID = formatUUID(r.take(16))
	} else {
		a.UID = r.text()
	}
	if flags[0]&numberFlag != 0 {
		a.ResourceVersion = strconv.FormatUint(r.uvarint(), 10)
	} else {
		a.ResourceVersion = r.text()
	}
	a.Version = r.text()
	if r.failed || !bytes.Equal(a.Encode(), b) {
		return Attributes{}, fmt.Errorf("%w: %x", ErrAttributes, b[:min(len(b), 64)])
	}
	return a, nil
}

// attributeReader takes values off the front of bytes; after a failure it gives zero values.
type attributeReader struct {
	rest   []byte
	failed bool
}

func (r *attributeReader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return make([]byte, min(n, maxAttribute))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *attributeReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.failed = true
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *attributeReader) text() string {
	n := r.uvarint()
	if n > maxAttribute {
		r.failed = true
		return ""
	}
	return string(r.take(int(n)))
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseUUID returns the bytes of a UUID in the one spelling that [formatUUID] gives back.
func parseUUID(s string) (raw [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return raw, false
	}
	if _, err := hex.Decode(raw[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return raw, false
	}
	return raw, formatUUID(raw[:]) == s
}

func formatUUID(raw []byte) string {
	h := hex.EncodeToString(raw)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// parseNumber returns the value of decimal digits without sign or leading zeros.
func parseNumber(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
