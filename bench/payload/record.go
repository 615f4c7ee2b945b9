package payload

// Record is a piece of content that changes a little in each round. Whoever knows its kind and the
// rounds it went through knows all its bytes.
type Record struct {
	kind  uint64
	bytes []byte
	parts int
}

// NewRecord makes the record of round 0. parts divides size.
func NewRecord(kind uint64, size, parts int) *Record {
	r := &Record{kind: kind, bytes: make([]byte, size), parts: parts}
	for part := range uint64(parts) {
		Fill(r.part(part), r.seed(0, part))
	}
	return r
}

// Bytes is all of it, not a copy.
func (r *Record) Bytes() []byte { return r.bytes }

// Advance writes what a round changes, one part of it, and returns where that is.
func (r *Record) Advance(round uint64) (offset int, changed []byte) {
	part := round % uint64(r.parts)
	changed = r.part(part)
	Fill(changed, r.seed(round, part))
	return int(part) * len(changed), changed
}

func (r *Record) part(n uint64) []byte {
	size := len(r.bytes) / r.parts
	return r.bytes[int(n)*size:][:size]
}

func (r *Record) seed(round, part uint64) uint64 { return r.kind<<56 ^ round<<16 ^ part }

// What the guest remembers through all suspends, and how the bench refers to it. Each round changes a
// sixteenth, so that a checkpoint holds new pages beside ones from many rounds ago.
const (
	memoryKind, diskKind = 1, 2
	memorySize           = 4 << 20 // bytes
	diskSize             = 1 << 20 // bytes
	recordParts          = 16
)

// NewMemory is the record that the guest keeps in memory.
func NewMemory() *Record { return NewRecord(memoryKind, memorySize, recordParts) }

// NewDisk is the record that the guest keeps in a file.
func NewDisk() *Record { return NewRecord(diskKind, diskSize, recordParts) }

// Remembered is what the guest answers to a step: sums of what it found before it made the step.
type Remembered struct {
	Nonce  string `json:"nonce"`  // made in memory once, when the app started
	Round  uint64 `json:"round"`  // of the step before
	Memory uint32 `json:"memory"` // sum of the record in memory
	Disk   uint32 `json:"disk"`   // sum of the file, read from the disk and not from the page cache
}
