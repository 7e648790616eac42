package cloud

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/varve-dev/varve/repo/storage"
)

// rangeHeader returns the value of the Range header; empty asks for the whole object. A negative length
// means to the end.
func rangeHeader(offset, length int64) string {
	switch {
	case length < 0 && offset == 0:
		return ""
	case length < 0:
		return fmt.Sprintf("bytes=%d-", offset)
	}
	return fmt.Sprintf("bytes=%d-%d", offset, offset+length-1)
}

// readRange reads the body of an answer to the end and closes it. The size is what the store announced,
// -1 if it did not. A store that does not know ranges sends the whole object, which must not pass for a
// part of it.
func readRange(body io.ReadCloser, size int64, contentRange string, offset, length int64) (_ []byte, err error) {
	defer func() { err = errors.Join(err, body.Close()) }()
	asked := rangeHeader(offset, length) != ""
	if got := fmt.Sprintf("bytes %d-", offset); asked && !strings.HasPrefix(contentRange, got) {
		return nil, &storage.Error{Class: storage.ErrUnsupported, Err: errors.New("the store sends another range than was asked for")}
	}
	if size < 0 {
		return io.ReadAll(body)
	}
	if asked && length >= 0 && size > length {
		return nil, &storage.Error{Class: storage.ErrUnsupported, Err: errors.New("the store sends more than was asked for")}
	}
	data := make([]byte, size)
	if n, err := io.ReadFull(body, data); err != nil {
		return nil, fmt.Errorf("answer broke off after %d of %d bytes: %w", n, size, err)
	}
	return data, nil
}

// wholeSize returns the size of an object of which a range was asked for.
func wholeSize(size int64, contentRange string) (int64, error) {
	if contentRange == "" {
		return size, nil
	}
	_, whole, _ := strings.Cut(contentRange, "/")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n < 0 {
		return 0, &storage.Error{Class: storage.ErrUnsupported, Err: fmt.Errorf("the store answers with the range %q", contentRange)}
	}
	return n, nil
}
