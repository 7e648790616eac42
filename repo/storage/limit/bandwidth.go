package limit

import (
	"context"
	"net"

	"golang.org/x/time/rate"
)

// Bandwidth bounds the bytes of all connections of a process, with everything that goes over them. Nil bounds nothing.
type Bandwidth struct {
	up, down *rate.Limiter // nil: unbounded
}

// NewBandwidth bounds what goes up and what comes down, in bytes per second. Zero does not bound.
func NewBandwidth(up, down int64) *Bandwidth {
	return &Bandwidth{limiter(up), limiter(down)}
}

// How much may go at once: what the line carries in a twentieth of a second, in bounds.
const (
	leastPiece = 1 << 10
	mostPiece  = 64 << 10
)

func limiter(perSecond int64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(min(max(perSecond/20, leastPiece), mostPiece)))
}

// Conn returns a connection that is paced.
func (b *Bandwidth) Conn(c net.Conn) net.Conn {
	if b == nil || b.up == nil && b.down == nil {
		return c
	}
	p := &paced{Conn: c, by: b}
	p.open, p.close = context.WithCancel(context.Background())
	return p
}

// paced is a connection whose reads and writes wait for their turn.
type paced struct {
	net.Conn
	by    *Bandwidth
	open  context.Context // until Close
	close context.CancelFunc
}

// Read takes a piece, and then waits for as long as it should have taken to come: what is not read the other side
// cannot go on sending.
func (c *paced) Read(b []byte) (int, error) {
	down := c.by.down
	if down == nil {
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b[:min(len(b), down.Burst())])
	if e := down.WaitN(c.open, n); e != nil && err == nil {
		err = net.ErrClosed
	}
	return n, err
}

// Write sends piece by piece.
func (c *paced) Write(b []byte) (sent int, err error) {
	up := c.by.up
	if up == nil {
		return c.Conn.Write(b)
	}
	for len(b) > 0 {
		piece := b[:min(len(b), up.Burst())]
		if err := up.WaitN(c.open, len(piece)); err != nil {
			return sent, net.ErrClosed
		}
		n, err := c.Conn.Write(piece)
		sent += n
		if err != nil {
			return sent, err
		}
		b = b[n:]
	}
	return sent, nil
}

// Close ends what waits.
func (c *paced) Close() error {
	c.close()
	return c.Conn.Close()
}
