package cloud

import (
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/varve-dev/varve/repo/storage"
)

// A reply is a refusal of a store in terms that the three share.
type reply struct {
	status int
	code   string // the store's own word
	header http.Header
	err    error
}

// class makes an error of a class, with the store's Retry-After.
func (r reply) class(class error, hint string) error {
	return &storage.Error{Class: class, Hint: hint, After: retryAfter(r.header), Err: r.err}
}

// byStatus sorts what no code of the store's own explains. That something is not found is for the store
// to say in its own words: the 404 of a proxy, or of a wrong address, is not the absence of an object.
func (r reply) byStatus(permission string) error {
	switch r.status {
	case http.StatusNotFound:
		return r.class(storage.ErrUnsupported, "is there a store at this address? the options endpoint and path_style make it up")
	case http.StatusRequestedRangeNotSatisfiable:
		return fmt.Errorf("%w: %w", errPastEnd, r.err)
	case http.StatusUnauthorized, http.StatusProxyAuthRequired:
		return r.class(storage.ErrCredentials, "")
	case http.StatusForbidden:
		return r.class(storage.ErrForbidden, permission)
	case http.StatusNotImplemented:
		return r.class(storage.ErrUnsupported, "this store lacks something that a repository needs; a newer release of it may have it")
	case http.StatusTooManyRequests:
		return r.class(storage.ErrThrottled, "")
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return r.class(storage.ErrTemporary, "")
	}
	if r.status >= http.StatusInternalServerError {
		return r.class(storage.ErrTemporary, "")
	}
	return r.err
}

// said is what a store answered, in one line and without what only fills it.
type said struct {
	text string
	err  error
}

func (s said) Error() string { return s.text }
func (s said) Unwrap() error { return s.err }

// noCredentials is a request that was never sent.
func noCredentials(err error, hint string) error {
	return &storage.Error{Class: storage.ErrCredentials, Hint: hint, Err: err}
}

// byConnection sorts errors of requests that no store answered. What it does not know it returns as it
// is.
func byConnection(err error) error {
	if _, sorted := errors.AsType[*storage.Error](err); sorted {
		return err
	}
	u := new(url.Error)
	sent := errors.As(err, &u)
	if sent { // the URL of a request may hold a signature
		where, parsed := url.Parse(u.URL)
		if parsed != nil {
			where = new(url.URL)
		}
		err = fmt.Errorf("%s %s: %w", strings.ToUpper(u.Op), where.Host, u.Err)
	}
	var cert *tls.CertificateVerificationError
	var header tls.RecordHeaderError
	var unknown *net.DNSError
	switch {
	case errors.As(err, &cert):
		return &storage.Error{Class: storage.ErrUntrusted, Hint: "the option ca names a file with the certificate of the authority that signed it", Err: err}
	case errors.As(err, &header):
		return &storage.Error{Class: storage.ErrUntrusted, Hint: "is there TLS at this address? the option endpoint may begin with http://", Err: err}
	case errors.As(err, &unknown):
		return &storage.Error{Class: storage.ErrTemporary, Hint: "is the name right? the options endpoint, region and account make it up", Err: err}
	case sent || broken(err):
		return &storage.Error{Class: storage.ErrTemporary, Err: err}
	}
	return err
}

// noList is an answer to a list that was understood and says nothing of what each list says. The libraries pass over what
// they do not know, so an error that comes with a 200 would else be an empty list.
func noList() error {
	return &storage.Error{Class: storage.ErrTemporary, Err: errors.New("the store answered 200 with something that is no list")}
}

// broken reports whether a connection could not be made, broke off or fell silent.
func broken(err error) bool {
	for _, e := range []error{
		io.ErrUnexpectedEOF, io.EOF, os.ErrDeadlineExceeded, net.ErrClosed,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ENETUNREACH, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	_, isJSON := errors.AsType[*json.SyntaxError](err)
	_, isXML := errors.AsType[*xml.SyntaxError](err)
	if isJSON || isXML { // half an answer, or one of somebody in between
		return true
	}
	var n net.Error
	return errors.As(err, &n)
}
