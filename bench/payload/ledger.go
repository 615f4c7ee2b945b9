package payload

// Ledger accounts for the messages of one stream on the side that gets them. Each must come once and
// in order.
type Ledger struct {
	Next     uint64 `json:"next"`     // the number that must come now: so many were sent, if nothing is amiss
	Received uint64 `json:"received"` // messages, those that came again included
	Repeated uint64 `json:"repeated"` // numbers that came again, or late
	Skipped  uint64 `json:"skipped"`  // numbers that others came instead of
}

// Take enters a message.
func (l *Ledger) Take(number uint64) {
	l.Received++
	switch {
	case number < l.Next:
		l.Repeated++
	default:
		l.Skipped += number - l.Next
		l.Next = number + 1
	}
}

// Missing is how many of so many sent messages never came, those that came late counted as missing.
func (l *Ledger) Missing(sent uint64) uint64 {
	return l.Skipped + max(sent, l.Next) - l.Next
}

// Add makes l the sum of both.
func (l *Ledger) Add(other Ledger) {
	l.Next += other.Next
	l.Received += other.Received
	l.Repeated += other.Repeated
	l.Skipped += other.Skipped
}

// Totals are the accounts of all streams that reached a guest.
type Totals struct {
	Ledger
	Streams int    `json:"streams"`
	Damaged uint64 `json:"damaged"` // messages that were not what was sent
}

// Received is what the guest says of a large body it got.
type Received struct {
	Bytes int64  `json:"bytes"`
	Sum   uint32 `json:"sum"`
}
