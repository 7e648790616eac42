package cloud

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// ErrAddress means that a URL names no place in an object store: a mistyped option, a missing name.
var ErrAddress = errors.New("bad repository URL")

// An address is what a URL says: the store, the bucket in it, the prefix in that, and how to get there.
type address struct {
	scheme string
	bucket string // called container in Azure
	prefix string // empty or with a slash at its end
	url    string // the same in canonical form; it holds no secret

	endpoint     *url.URL // nil: the provider's own
	ca           string   // file with certificates to trust besides the system's
	proxy        *url.URL // nil: as the environment says
	credentials  string   // file to take credentials from; empty: the provider's own chain
	anonymous    bool
	storageClass string

	region    string // S3 only, as are the next three
	profile   string
	pathStyle bool
	checksum  string

	account string // Azure only
}

// The options of every scheme, and those that only one has.
var (
	commonOptions = []string{"anonymous", "ca", "credentials", "endpoint", "proxy", "storage_class"}
	ownOptions    = map[string][]string{
		schemeS3:    {"checksum", "path_style", "profile", "region"},
		schemeGCS:   {},
		schemeAzure: {"account"},
	}
)

// The schemes of the stores.
const (
	schemeS3    = "s3"
	schemeGCS   = "gs"
	schemeAzure = "azblob"
)

// IsScheme reports whether URLs of a scheme name buckets of this package.
func IsScheme(scheme string) bool {
	_, ok := ownOptions[strings.ToLower(scheme)]
	return ok
}

// parseAddress reads a URL. Its errors repeat nothing of the URL that may be a secret.
func parseAddress(text string) (address, error) {
	u, err := url.Parse(text)
	if err != nil { // its message would repeat the URL
		return address{}, fmt.Errorf("%w: it is no URL", ErrAddress)
	}
	a := address{scheme: u.Scheme, bucket: u.Host}
	switch {
	case !IsScheme(u.Scheme):
		return address{}, fmt.Errorf("%w: unknown scheme", ErrAddress)
	case u.User != nil || u.Fragment != "":
		return address{}, fmt.Errorf("%w: credentials have no place in it; the option credentials names a file of them", ErrAddress)
	case u.Host == "" || u.Port() != "":
		return address{}, fmt.Errorf("%w: %s:// is followed by the name of a bucket; an address goes into the option endpoint", ErrAddress, u.Scheme)
	}
	if a.prefix, err = parsePrefix(u.Path); err != nil {
		return address{}, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return address{}, fmt.Errorf("%w: the options after ? are malformed", ErrAddress)
	}
	if err := a.parseOptions(query); err != nil {
		return address{}, err
	}
	canonical := url.URL{Scheme: a.scheme, Host: a.bucket, Path: strings.TrimSuffix("/"+a.prefix, "/"), RawQuery: query.Encode()}
	a.url = canonical.String()
	return a, nil
}

// maxPrefix leaves room for our own names below it: S3 takes 1,024 bytes in all.
const maxPrefix = 500

// parsePrefix returns the path of a URL as a prefix of keys.
func parsePrefix(path string) (string, error) {
	path = strings.Trim(path, "/")
	if path == "" {
		return "", nil
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", fmt.Errorf("%w: its path has an empty part, or . or .. in it", ErrAddress)
		}
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\uFFFD' }) || len(path) > maxPrefix {
		return "", fmt.Errorf("%w: its path is longer than %d bytes or has control characters in it", ErrAddress, maxPrefix)
	}
	return path + "/", nil
}

// parseOptions takes what stands behind the question mark.
func (a *address) parseOptions(query url.Values) error {
	known := slices.Sorted(slices.Values(slices.Concat(commonOptions, ownOptions[a.scheme])))
	for name, values := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%w: an option that %s:// does not have; it has %s", ErrAddress, a.scheme, strings.Join(known, ", "))
		}
		if len(values) != 1 || values[0] == "" {
			return fmt.Errorf("%w: option %s must have one value", ErrAddress, name)
		}
	}
	a.ca, a.credentials, a.storageClass = query.Get("ca"), query.Get("credentials"), query.Get("storage_class")
	a.region, a.profile, a.account = query.Get("region"), query.Get("profile"), query.Get("account")
	var err error
	if a.endpoint, err = webAddress(query, "endpoint"); err != nil {
		return err
	}
	if a.proxy, err = webAddress(query, "proxy"); err != nil {
		return err
	}
	if a.anonymous, err = truth(query, "anonymous", false); err != nil {
		return err
	}
	// Few stores besides Amazon's own have a name in DNS for every bucket.
	if a.pathStyle, err = truth(query, "path_style", a.endpoint != nil); err != nil {
		return err
	}
	a.checksum = query.Get("checksum")
	if a.checksum == "" {
		a.checksum = checksumCRC32C
	}
	if !slices.Contains(checksums, a.checksum) {
		return fmt.Errorf("%w: option checksum is one of %s", ErrAddress, strings.Join(checksums, ", "))
	}
	if a.anonymous && (a.credentials != "" || a.profile != "") {
		return fmt.Errorf("%w: options anonymous and credentials exclude each other", ErrAddress)
	}
	return nil
}

// webAddress reads an option that is the URL of a server.
func webAddress(query url.Values, option string) (*url.URL, error) {
	text := query.Get(option)
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%w: option %s is a URL like https://host:port", ErrAddress, option)
	}
	if u.User != nil {
		return nil, fmt.Errorf("%w: option %s must not hold credentials", ErrAddress, option)
	}
	return u, nil
}

func truth(query url.Values, option string, unset bool) (bool, error) {
	if !query.Has(option) {
		return unset, nil
	}
	yes, err := strconv.ParseBool(query.Get(option))
	if err != nil {
		return false, fmt.Errorf("%w: option %s is true or false", ErrAddress, option)
	}
	return yes, nil
}
